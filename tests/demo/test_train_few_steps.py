"""The student's training on lessons that a tiny teacher recorded, without compiling."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tadp.demo.train_few_steps import load_average, train_few_steps
from tadp.demo.train_transformer import Phase
from tadp.demo.trajectories import Teacher, record

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    with torch.compiler.set_stance("force_eager"):
        yield


def phase(steps: int, rate: float = 1e-3) -> tuple[Phase, ...]:
    return (Phase(size=32, batch=8, steps=steps, rate=rate, final_rate=rate),)


def losses(directory: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (directory / "few-steps.jsonl").read_text().splitlines()]


def test_the_student_learns_its_lessons(teacher: Teacher, tmp_path: Path) -> None:
    record(tmp_path, teacher, 32, range(1), CPU)
    before = {name: value.clone() for name, value in teacher.transformer.state_dict().items()}
    train_few_steps(tmp_path, phase(60, rate=5e-3), teacher, teacher.transformer, CPU)
    found = losses(tmp_path)
    assert len(found) == 12
    assert found[-1] < 0.7 * found[0]
    assert all(torch.equal(value, before[name]) for name, value in teacher.transformer.state_dict().items())


def test_a_training_goes_on_where_it_stopped(teacher: Teacher, tmp_path: Path) -> None:
    record(tmp_path, teacher, 32, range(1), CPU)
    first = train_few_steps(tmp_path, phase(5), teacher, teacher.transformer, CPU)
    kept = load_average(tmp_path, teacher.transformer)
    assert all(torch.equal(one, two) for one, two in zip(first.parameters(), kept.parameters(), strict=True))
    second = train_few_steps(tmp_path, phase(10), teacher, teacher.transformer, CPU)
    assert len(losses(tmp_path)) == 2
    again = train_few_steps(tmp_path, phase(10), teacher, teacher.transformer, CPU)
    assert all(torch.equal(one, two) for one, two in zip(second.parameters(), again.parameters(), strict=True))
    moved = zip(first.parameters(), second.parameters(), strict=True)
    assert any(not torch.equal(one, two) for one, two in moved)


def test_there_is_no_average_without_a_checkpoint(teacher: Teacher, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        load_average(tmp_path, teacher.transformer)

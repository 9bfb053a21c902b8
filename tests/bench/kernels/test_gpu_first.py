"""The flow of bench.kernels.gpu_first, with steps that do nothing."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from bench.kernels import gpu_first
from bench.kernels.gpu_first import Step

STEPS = (Step("one", ("a",)), Step("two", ("b",)), Step("three", ("c",), needs="no such folder"), Step("four", ("d",)))


def test_goes_on_when_a_step_fails_and_says_so_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran: list[str] = []

    def run(command: Sequence[str]) -> int:
        ran.append(command[0])
        if command[0] == "d":
            raise OSError("no interpreter")
        return 3 if command[0] == "b" else 0

    path = tmp_path / "first.json"
    assert gpu_first.run_steps(STEPS, run, path) == 1
    assert ran == ["a", "b", "d"]
    assert "2 of 4 steps failed: two, four" in capsys.readouterr().err
    kept = json.loads(path.read_text())
    outcomes = {row["step"]: row["outcome"] for row in kept["rows"]}
    assert outcomes == {
        "one": "done",
        "two": "failed with exit code 3",
        "three": "left out: there is no no such folder here",
        "four": "failed: no interpreter",
    }
    assert kept["failed"] == "two, four"
    assert kept["machine"]


def test_keeps_what_was_done_when_it_is_interrupted(tmp_path: Path) -> None:
    def run(command: Sequence[str]) -> int:
        if command[0] == "b":
            raise KeyboardInterrupt
        return 0

    path = tmp_path / "first.json"
    with pytest.raises(KeyboardInterrupt):
        gpu_first.run_steps(STEPS, run, path)
    assert [row["step"] for row in json.loads(path.read_text())["rows"]] == ["one"]


@pytest.mark.parametrize(("version", "said"), [(None, "a CUDA build of torch"), ("13.0", "a CUDA device")])
def test_without_a_gpu_one_sentence_says_what_is_missing(
    version: str | None, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", version)
    monkeypatch.setattr("sys.argv", ["gpu_first"])
    assert gpu_first.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_its_steps_are_there() -> None:
    root = Path(gpu_first.__file__).parents[2]
    for step in gpu_first.STEPS:
        assert (root / step.needs).exists()
        assert (root / f"{step.command[1].replace('.', '/')}.py").exists() or step.command[1] == "pytest"

import math
from pathlib import Path

import pytest

from tadp.calibration.samples import Outcome, Sample, SampleFile

KEY = {"model": "embedded", "tadp": "0.1.0"}
WHOLE = Outcome(1e-4, 0.99, 0.01, 2.5)
NARROW = Outcome(1e-3, None, None, 2.5, alignment=0.5, recipes={"8": 16}, weight_bytes=1000)
FIRST = Sample("a cat", 0, {"entropy": 0.5}, {"static:8": WHOLE, "static:4": NARROW})
SECOND = Sample("un café, 一只猫", 1, {}, {"static:8": WHOLE})


def _add(file: SampleFile, sample: Sample) -> None:
    if sample.features:
        file.add_features(sample.prompt, sample.seed, sample.features)
    for policy, outcome in sample.outcomes.items():
        file.add_outcome(sample.prompt, sample.seed, policy, outcome)


def test_samples_come_back_as_they_were_added(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "samples.jsonl"
    file = SampleFile(path, KEY)
    assert file.samples == ()
    for sample in (FIRST, SECOND):
        _add(file, sample)
    again = SampleFile(path, KEY)
    assert again.samples == file.samples == (FIRST, SECOND)
    assert again.sample("a cat", 0) == FIRST
    assert again.sample("a cat", 1) == Sample("a cat", 1)


@pytest.mark.parametrize("lost", [1, 10, 100])
def test_what_was_being_written_when_a_run_was_killed_is_dropped(tmp_path: Path, lost: int) -> None:
    path = tmp_path / "samples.jsonl"
    _add(SampleFile(path, KEY), FIRST)
    path.write_bytes(path.read_bytes()[:-lost])
    resumed = SampleFile(path, KEY)
    assert resumed.samples == (Sample("a cat", 0, FIRST.features, {"static:8": WHOLE}),)
    resumed.add_outcome("a cat", 0, "static:4", NARROW)
    assert SampleFile(path, KEY).samples == (FIRST,)


def test_a_run_that_was_killed_in_the_first_line_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text('{"mod')
    _add(SampleFile(path, KEY), FIRST)
    assert SampleFile(path, KEY).samples == (FIRST,)


def test_another_key_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    _add(SampleFile(path, KEY), FIRST)
    with pytest.raises(ValueError, match="remove it to measure anew"):
        SampleFile(path, KEY | {"tadp": "0.2.0"})
    assert SampleFile(path, KEY).samples == (FIRST,)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"prompt": "a"}',
        '{"prompt": "a", "seed": 0, "outcomes": {"static:8": {"mse": 1}}}',
        '{"prompt": "a", "seed": 0, "outcomes": 3}',
    ],
)
def test_a_damaged_line_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "samples.jsonl"
    SampleFile(path, KEY).add_features("a cat", 0, {})
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match="line 3, is damaged"):
        SampleFile(path, KEY)


def test_psnr_follows_from_the_squared_error() -> None:
    assert Outcome(1e-4, 1, 0, 1).psnr == pytest.approx(40)
    assert Outcome(0.0, 1, 0, 1).psnr == math.inf

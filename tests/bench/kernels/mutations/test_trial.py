"""Faults of a toy repository of one kernel and one test."""

import json
import subprocess
from pathlib import Path

import pytest

from bench.kernels.mutations.__main__ import run
from bench.kernels.mutations.fault import Fault, Selection
from bench.kernels.mutations.report import summary

pytestmark = pytest.mark.spawns

KERNEL = "def double(x):\n    y = 2 * x\n    z = y\n    return z\n"
TESTS = """import time
import kernel

def test_sums():
    assert kernel.double(3) == 6

def test_nothing():
    assert kernel.double(0) == 0
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    (root / "kernel.py").write_text(KERNEL)
    (root / "test_kernel.py").write_text(TESTS)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    return root


def fault(name: str, old: str, new: str, expression: str = "") -> Fault:
    return Fault(name, "scale", "kernel.py", old, new, Selection("test_kernel.py", expression))


FAULTS = [
    fault("found", "2 * x", "3 * x"),
    fault("hangs", "2 * x", "__import__('time').sleep(60)"),
    fault("crashes", "2 * x", "__import__('os').abort()"),
    fault("survives", "2 * x", "3 * x", "nothing"),
    fault("does not build", "return z", "return return z"),
]


def test_a_fault_is_found_survives_or_does_not_build(repository: Path, tmp_path: Path) -> None:
    outcomes = {fault.name: outcome for fault, outcome in run(FAULTS, tmp_path / "work", 10.0, repository)}
    assert {name: outcome.outcome for name, outcome in outcomes.items()} == {
        "found": "found",
        "hangs": "found",
        "crashes": "found",
        "survives": "survived",
        "does not build": "build failed",
    }
    assert [outcomes[name].by for name in ("found", "hangs", "crashes")] == [
        "test_sums",
        "time limit",
        "crash: SIGABRT",
    ]
    assert "SyntaxError" in outcomes["does not build"].by
    for root in (repository, tmp_path / "work" / "tree"):  # neither is left changed
        assert (root / "kernel.py").read_text() == KERNEL


def test_an_interrupted_run_goes_on(repository: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    run(FAULTS[:1], work, 30.0, repository)
    lines = (work / "results.jsonl").read_text()
    run(FAULTS[:1], work, 30.0, repository)
    assert (work / "results.jsonl").read_text() == lines

    def tried(*faults: Fault) -> list[str]:
        before = len((work / "results.jsonl").read_text().splitlines())
        run(list(faults), work, 30.0, repository)
        added = (work / "results.jsonl").read_text().splitlines()[before:]
        return [name for line in added if not (name := json.loads(line)["name"]).startswith("unchanged")]

    (repository / "kernel.py").write_text("# other\n" + KERNEL)
    assert tried(FAULTS[0], FAULTS[3]) == ["found", "survives"]
    # Tests that were added may find what survived; what was found stays found.
    (repository / "test_kernel.py").write_text(TESTS.replace("double(0) == 0", "double(1) == 2"))
    assert tried(FAULTS[0], FAULTS[3]) == ["survives"]
    assert json.loads((work / "results.jsonl").read_text().splitlines()[-1])["outcome"] == "found"


def test_tests_that_fail_anyway_prove_nothing(repository: Path, tmp_path: Path) -> None:
    (repository / "test_kernel.py").write_text(TESTS.replace("== 6", "== 7"))
    with pytest.raises(RuntimeError, match=r"test_kernel.py does not pass without a fault: test_sums"):
        run(FAULTS[:1], tmp_path / "work", 30.0, repository)


def test_a_selection_of_no_test_is_refused(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no test was selected"):
        run([fault("empty", "2 * x", "3 * x", "unknown")], tmp_path / "work", 30.0, repository)


def test_files_that_are_gone_leave_the_copy(repository: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    (repository / "test_more.py").write_text("")
    subprocess.run(["git", "add", "."], cwd=repository, check=True)
    run([], work, 30.0, repository)
    assert (work / "tree" / "test_more.py").is_file()
    subprocess.run(["git", "rm", "-q", "-f", "test_more.py"], cwd=repository, check=True)
    run([], work, 30.0, repository)
    assert not (work / "tree" / "test_more.py").exists()


def test_the_summary_counts_and_names_what_was_missed(repository: Path, tmp_path: Path) -> None:
    text = summary(run([FAULTS[0], FAULTS[3]], tmp_path / "work", 30.0, repository))
    assert "| scale | 2 | 1 | 1 | 0 |" in text
    assert "| kernel.py | 2 | 1 | 1 | 0 |" in text
    assert "survived: survives in kernel.py" in text

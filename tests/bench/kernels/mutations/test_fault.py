import json
from collections import Counter
from pathlib import Path

import pytest

from bench.kernels.mutations.fault import KINDS, Fault, Selection, read_faults

ROOT = Path(__file__).parents[4]
FAULTS = read_faults()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_fits_the_kernels_of_today(fault: Fault) -> None:
    text = (ROOT / fault.file).read_text(encoding="utf-8")
    assert fault.apply(text) != text
    assert (ROOT / fault.tests.file).is_file()


def test_there_are_a_hundred_of_every_kind_in_every_language() -> None:
    assert len(FAULTS) >= 100
    assert {fault.kind for fault in FAULTS} == set(KINDS)
    folders = Counter("/".join(fault.file.split("/")[:2]) for fault in FAULTS)
    assert min(folders[name] for name in ("csrc/cpu", "csrc/cuda", "tadp/kernels")) >= 10


def test_two_faults_never_say_the_same() -> None:
    assert len({(fault.file, fault.old, fault.new) for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("text", ["nothing", "old old"])
def test_a_text_that_is_not_there_once_is_refused(text: str) -> None:
    fault = Fault("toy", "tail", "toy.py", "old", "new", Selection("test_toy.py"))
    with pytest.raises(ValueError, match=f"'toy': toy.py has its old text {text.count('old')} times"):
        fault.apply(text)


@pytest.mark.parametrize(
    ("changes", "message"), [({"kind": "odd"}, "of no known kind: 'odd'"), ({}, "two faults called 'toy'")]
)
def test_lists_that_contradict_themselves_are_refused(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    row = {"name": "toy", "kind": "tail", "file": "a", "old": "b", "new": "c", "tests": ["d"]}
    (tmp_path / "toy.json").write_text(json.dumps([row, {**row, **changes}]))
    with pytest.raises(ValueError, match=message):
        read_faults(tmp_path)


def test_only_sources_of_the_library_are_compiled() -> None:
    def compiled(file: str) -> bool:
        return Fault("toy", "tail", file, "a", "b", Selection("c")).compiled

    assert compiled("csrc/cpu/linear.cpp")
    assert compiled("csrc/nonlinearity.h")
    assert not compiled("csrc/cuda/quantize.cuh")
    assert not compiled("tadp/kernels/planes.py")

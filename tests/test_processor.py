from collections.abc import Iterator
from pathlib import Path

import pytest

from tadp import processor

LINUX = "processor\t: 0\nmodel name\t: Some: CPU\nflags\t\t: fpu avx2 avx512f\n\nprocessor\t: 1\nmodel name\t: Other\n"


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    processor._facts.cache_clear()
    yield
    processor._facts.cache_clear()


def test_linux_tells_of_the_first_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: LINUX)
    assert processor.name() == "Some: CPU"
    assert processor.flags() == {"fpu", "avx2", "avx512f"}


def test_other_systems_tell_the_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path, encoding: str) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    assert processor.name()
    assert processor.flags() == frozenset()


@pytest.mark.parametrize(
    ("line", "multiplies"),
    [
        ("flags\t: avx2 avx512_vnni\n", False),
        ("flags\t: avx2 avx512_bf16\n", True),
        ("flags\t: avx2 amx_bf16\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("Features\t: fp asimd\n", False),
    ],
)
def test_bfloat16_is_multiplied_where_a_flag_says_so(
    monkeypatch: pytest.MonkeyPatch, line: str, multiplies: bool
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, encoding: line)
    assert processor.multiplies_bfloat16() == multiplies

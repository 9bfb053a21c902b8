"""What a test may do follows from its marks: one without any neither compiles nor starts a process.

The tiers of docs/testing.md are chosen by these marks: a mark that is missing would let a slow test into `make check`.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import torch._dynamo.callback as dynamo

COMPILING = frozenset({"compiles", "gpu"})
"""Marks of tests in which torch.compile may compile."""
SPAWNING = frozenset({"compiles", "aot", "interpreter", "spawns", "gpu"})
"""Marks of tests that may start processes; compilers are some."""

_EVENTS = {"subprocess.Popen", "os.fork", "os.posix_spawn", "os.system"}
_COMPILERS = ("ptxas", "nvcc", "cuobjdump")
_QUESTIONS = ("fc-list", "uname")
"""What matplotlib asks for fonts and platform for the processor, once a machine and once a process."""


@dataclass
class _Running:
    """The test that runs now.

    Attributes:
        marks: names of its marks; None where no test runs.
        found: what it did that its marks do not allow.
    """

    marks: frozenset[str] | None = None
    found: str = ""


_running = _Running()


@contextmanager
def watching(item: pytest.Item) -> Iterator[None]:
    """Fail a test, fixtures included, as soon as it does what none of its marks allows, and at its end once more.

    The second failure is for tests that catch the first.
    """
    _running.marks = frozenset(mark.name for mark in item.iter_markers())
    _running.found = ""
    try:
        yield
    finally:
        _running.marks = None
    if _running.found:
        pytest.fail(_running.found, pytrace=False)


def _refuse(did: str, mark: str) -> None:
    _running.found = f"this test {did}: mark it with @pytest.mark.{mark} (docs/testing.md says which tier that is)"
    pytest.fail(_running.found)


def _on_event(event: str, arguments: tuple[object, ...]) -> None:
    if event not in _EVENTS or _running.marks is None or _running.marks & SPAWNING:
        return
    program = Path(os.fsdecode(cast("os.PathLike[str]", arguments[0]))).name if arguments else event
    if program not in _QUESTIONS:
        _refuse(f"started {program}", "aot" if program.startswith(_COMPILERS) else "spawns")


def _on_compile(_: dynamo.CallbackArgs) -> None:
    if _running.marks is not None and not _running.marks & COMPILING:
        _refuse("made torch.compile compile", "compiles")


def install() -> None:
    """Watch from now on; Python cannot take the watching of processes back."""
    sys.addaudithook(_on_event)
    dynamo.on_compile_start(_on_compile)

"""What a test may do follows from its marks: one without any neither compiles nor starts a process.

The tiers of docs/testing.md are chosen by these marks: a mark that is missing would let a slow test into `make check`.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from torch._dynamo.callback import CallbackArgs

COMPILING = frozenset({"compiles", "gpu"})
"""Marks of tests in which torch.compile may compile."""
SPAWNING = frozenset({"compiles", "aot", "interpreter", "spawns", "gpu"})
"""Marks of tests that may start processes; compilers are some."""

_EVENTS = {"subprocess.Popen", "os.fork", "os.posix_spawn", "os.system"}
_COMPILERS = ("ptxas", "nvcc", "cuobjdump")
_QUESTIONS = ("fc-list", "uname")
"""What matplotlib asks for fonts and platform for the processor, once a machine and once a process."""


@dataclass
class _Watch:
    """One test while it runs: the names of its marks, and what it did that they do not allow."""

    marks: frozenset[str]
    found: str = ""


_watches: list[_Watch] = []
"""The innermost last; only tests of this file have one inside another."""


@contextmanager
def watching(item: pytest.Item) -> Iterator[None]:
    """Fail a test, fixtures included, as soon as it does what none of its marks allows, and at its end once more.

    The second failure is for tests that catch the first.
    """
    watch = _Watch(frozenset(mark.name for mark in item.iter_markers()))
    _watches.append(watch)
    try:
        yield
    finally:
        _watches.pop()
    if watch.found:
        pytest.fail(watch.found, pytrace=False)


def install() -> None:
    """Watch from now on, in a process that runs tests. Python cannot take the watching of processes back."""
    from torch._dynamo.callback import callback_handler

    sys.addaudithook(_on_event)
    run = callback_handler.run_start_callbacks

    def run_watched(arguments: "CallbackArgs") -> None:
        _on_compile()
        run(arguments)

    # Not one of the callbacks themselves, which torch._dynamo.reset() forgets.
    callback_handler.run_start_callbacks = run_watched  # type: ignore[method-assign]


def _on_event(event: str, arguments: tuple[object, ...]) -> None:
    if event not in _EVENTS or not _watches or _watches[-1].marks & SPAWNING:
        return
    program = Path(os.fsdecode(cast("os.PathLike[str]", arguments[0]))).name if arguments else event
    if program not in _QUESTIONS:
        _refuse(f"started {program}", "aot" if program.startswith(_COMPILERS) else "spawns")


def _on_compile() -> None:
    if _watches and not _watches[-1].marks & COMPILING:
        _refuse("let torch.compile compile", "compiles")


def _refuse(did: str, mark: str) -> None:
    message = f"this test {did}: mark it with @pytest.mark.{mark} (docs/testing.md says which tier that is)"
    _watches[-1].found = message
    pytest.fail(message)

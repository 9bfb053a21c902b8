"""The guard of marks finds what it is there for."""

import contextlib
import os
import subprocess
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from tests import guard


def marked(*names: str) -> pytest.Item:
    return cast(Any, SimpleNamespace(iter_markers=lambda: (SimpleNamespace(name=name) for name in names)))


def compile_anew() -> None:
    torch._dynamo.reset()
    torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1))


@pytest.mark.parametrize(
    ("does", "marks", "missing"),
    [
        (lambda: subprocess.run(["true"], check=True), (), "started true.*pytest.mark.spawns"),
        (lambda: subprocess.run("true", shell=True, check=True), ("generates",), "started sh.*pytest.mark.spawns"),
        (lambda: os.system("true"), (), "pytest.mark.spawns"),
        (lambda: subprocess.run(["/nowhere/ptxas"], check=False), (), "started ptxas.*pytest.mark.aot"),
        (compile_anew, (), "pytest.mark.compiles"),
        (compile_anew, ("spawns", "aot"), "pytest.mark.compiles"),
    ],
)
def test_what_no_mark_allows_fails_and_names_the_mark(
    does: Callable[[], object], marks: tuple[str, ...], missing: str
) -> None:
    with pytest.raises(pytest.fail.Exception, match=missing), guard.watching(marked(*marks)):
        does()


def test_a_test_that_catches_the_failure_fails_at_its_end() -> None:
    def watched() -> None:
        with guard.watching(marked()), contextlib.suppress(BaseException):
            subprocess.run(["true"], check=True)

    with pytest.raises(pytest.fail.Exception, match=r"pytest\.mark\.spawns"):
        watched()


@pytest.mark.compiles
@pytest.mark.spawns
@pytest.mark.parametrize(
    ("does", "mark"), [(lambda: subprocess.run(["true"], check=True), "spawns"), (compile_anew, "compiles")]
)
def test_what_a_mark_allows_passes(does: Callable[[], object], mark: str) -> None:
    with guard.watching(marked(mark)):
        does()

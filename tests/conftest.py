"""What every test runs in: its own cache folder, and the guard of its marks.

Nothing here imports torch, which the process that only hands tests to workers does not need.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import guard

hypothesis.settings.register_profile("quick", max_examples=25, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=300, deadline=None)

MAIN_ARCHITECTURE = 90
"""The one for which kernels are compiled ahead of time unless all are asked for."""

SECONDS = {"interpreter": 80.0, "generates": 5.0, "compiles": 3.0, "aot": 1.0, "spawns": 0.5}
"""About what a test of each mark takes; any other takes a twentieth of a second."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--architectures",
        choices=("main", "all"),
        default="main",
        help=f"compile kernels ahead of time for sm_{MAIN_ARCHITECTURE} alone (main), or for all GPUs (all)",
    )


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    guard.install()
    if config.getoption("--architectures") == "main":
        others = [item for item in items if _architecture(item) not in (None, MAIN_ARCHITECTURE)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
    # Workers take whole files, so the longest come first: none begins when another worker has nothing left to do.
    seconds: Counter[Path] = Counter()
    for item in items:
        seconds[item.path] += max((SECONDS.get(mark.name, 0.0) for mark in item.iter_markers()), default=0.0) or 0.05
    items.sort(key=lambda item: -seconds[item.path])


def _architecture(item: pytest.Item) -> object:
    """What a test that is compiled for one architecture after the other is compiled for; None for any other test."""
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("architecture")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    with guard.watching(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    with guard.watching(item):
        return (yield)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TADP_CACHE_DIR", str(tmp_path_factory.getbasetemp() / "tadp-cache"))

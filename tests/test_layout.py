"""Where tests stand and what they import, read from their source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
FILES = sorted(TESTS.rglob("*.py"))
FOLDERS = sorted({path.parent.relative_to(TESTS) for path in FILES} - {Path()})


def imported(path: Path) -> Iterator[str]:
    """Every module and name that a file imports, as "tadp.policy.parse"; relative imports are refused by ruff."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def refused(path: Path) -> list[str]:
    """The imports of a test file that tie it to another test, to a benchmark or to what a module keeps to itself."""
    found = []
    for name in imported(path):
        package, *parts = name.split(".")
        of_a_test = package == "tests" and any(part == "conftest" or part.startswith("test_") for part in parts)
        of_bench = package == "bench" and not path.is_relative_to(TESTS / "bench")
        private = package == "tadp" and any(part.startswith("_") and not part.startswith("__") for part in parts)
        if of_a_test or of_bench or private:
            found.append(name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_what_tests_share_stands_in_modules_that_are_no_tests(path: Path) -> None:
    assert refused(path) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("policy/test_one.py", "from tests.policy.test_two import FOUND"),
        ("policy/test_one.py", "from tests.policy import test_two"),
        ("policy/test_one.py", "import tests.conftest"),
        ("policy/test_one.py", "def later() -> None:\n    from bench.record import write"),
        ("bench/test_one.py", "from tadp.policy.budget import _curve"),
    ],
)
def test_an_import_that_ties_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir()
    path.write_text(line)
    monkeypatch.setitem(globals(), "TESTS", tmp_path)
    assert len(refused(path)) == 1


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_folders_mirror_tadp_and_bench(folder: Path) -> None:
    mirrored = ROOT / folder if folder.parts[0] == "bench" else ROOT / "tadp" / folder
    assert mirrored.is_dir()

"""A copy of the repository that faults are put into, and how it is built and set back."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.kernels.mutations.fault import Fault

_BUILD_SECONDS = 1500
_LIBRARY = Path("tadp/_C.so")


class BuildError(Exception):
    """The library does not compile; the message is the end of what the compiler said."""


@dataclass(frozen=True)
class Tree:
    """A copy at ``root``, with what a build of its unchanged sources left at ``clean``."""

    root: Path
    clean: Path

    def build(self) -> None:
        """Build the library; only what changed is compiled.

        Raises:
            BuildError: where that fails.
        """
        done = subprocess.run(
            [sys.executable, "setup.py", "build_ext", "--inplace"],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root), "TADP_CUDA": "0"},
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
        )
        if done.returncode:
            raise BuildError((done.stdout + done.stderr)[-2000:])

    def digest(self, places: tuple[str, ...]) -> str:
        """Stands for the text of these files and of all files in these folders."""
        found = hashlib.sha256()
        for place in places:
            path = self.root / place
            files = (file for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc")
            for file in [path] if path.is_file() else sorted(files):
                found.update(file.read_bytes())
        return found.hexdigest()[:16]

    def keep(self) -> None:
        """Remember what was built, to go back to it without compiling."""
        shutil.rmtree(self.clean, ignore_errors=True)
        shutil.copytree(self.root / "build", self.clean / "build")
        shutil.copy2(self.root / _LIBRARY, self.clean / _LIBRARY.name)

    @contextmanager
    def with_fault(self, fault: Fault) -> Iterator[None]:
        """The tree with one fault in it, built where that takes a build; set back afterwards, times of files included.

        Raises:
            ValueError: if the fault does not fit the tree.
            BuildError: if the fault does not compile.
        """
        path = self.root / fault.file
        text, times = path.read_text(encoding="utf-8"), path.stat()
        try:
            path.write_text(fault.apply(text), encoding="utf-8")
            if fault.compiled:
                self.build()
            yield
        finally:
            path.write_text(text, encoding="utf-8")
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            if fault.compiled:
                self._set_back()

    def _set_back(self) -> None:
        shutil.rmtree(self.root / "build")
        shutil.copytree(self.clean / "build", self.root / "build")
        # A process may still have the other one open: a new file, not new bytes in it.
        (self.root / _LIBRARY).unlink(missing_ok=True)
        shutil.copy2(self.clean / _LIBRARY.name, self.root / _LIBRARY)


def copy_tree(source: Path, folder: Path) -> Tree:
    """Bring a folder's copy of the repository up to date: the files that git knows, as they are on disk.

    Files that have not changed keep their times, so that nothing of them is compiled again.
    """
    tree = Tree(folder / "tree", folder / "clean")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=source, capture_output=True, check=True).stdout
    wanted = [Path(name) for name in listed.decode().split("\0") if name]
    for relative in wanted:
        if not (source / relative).is_file():  # deleted, and not committed yet
            continue
        to, data = tree.root / relative, (source / relative).read_bytes()
        if not to.is_file() or to.read_bytes() != data:
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(data)
    before = folder / "files.txt"
    gone = set(before.read_text().split("\n")) - set(map(str, wanted)) if before.is_file() else set()
    for name in gone - {""}:
        (tree.root / name).unlink(missing_ok=True)
    before.write_text("\n".join(map(str, wanted)))
    return tree

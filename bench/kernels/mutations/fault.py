"""What a seeded fault is, and the list of them: `faults/*.json`, one file for each group of kernels."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

LISTS = Path(__file__).with_name("faults")

KINDS = {
    "barrier": "a synchronization of threads left out",
    "bound": "a loop or a grid that ends too early or too late",
    "not finite": "NaN, infinity or an empty row that is treated as a number",
    "offset": "a place in memory that belongs to something else",
    "rounding": "another order or way of rounding",
    "scale": "a factor or mean that is wrong, missing or taken twice",
    "softmax": "the largest score, or what follows from it",
    "tail": "what lies behind the last row, column, token or key",
    "unpack": "bits of a code from the wrong place",
    "zero point": "a zero point or its half that is wrong or missing",
}
"""Every kind of fault, and what it covers."""


@dataclass(frozen=True)
class Selection:
    """The tests that ought to find a fault.

    Attributes:
        file: a file of tests, relative to the repository.
        expression: what ``pytest -k`` takes; all tests of the file where empty.
    """

    file: str
    expression: str = ""

    def __str__(self) -> str:
        return f"{self.file} -k '{self.expression}'" if self.expression else self.file


@dataclass(frozen=True)
class Fault:
    """One change of one place.

    Attributes:
        name: short and unique.
        kind: one of ``KINDS``.
        file: the changed file, relative to the repository.
        old: the text that is replaced; it occurs once in the file.
        new: what replaces it.
        tests: what ought to find it.
        why: where no test can find it, the reason; empty for all others.
    """

    name: str
    kind: str
    file: str
    old: str
    new: str
    tests: Selection
    why: str = ""

    @property
    def compiled(self) -> bool:
        """Whether the library has to be built for the fault to be in it."""
        return self.file.startswith("csrc/") and not self.file.startswith("csrc/cuda/")

    def apply(self, text: str) -> str:
        """The file's text with the fault in it.

        Raises:
            ValueError: unless the old text occurs exactly once.
        """
        count = text.count(self.old)
        if count != 1:
            raise ValueError(f"fault {self.name!r}: {self.file} has its old text {count} times, not once: {self.old!r}")
        return text.replace(self.old, self.new)

    def digest(self, root: Path) -> str:
        """Stands for the fault and the file that it is in."""
        parts = (json.dumps(asdict(self), sort_keys=True).encode(), (root / self.file).read_bytes())
        return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def read_faults(folder: Path = LISTS) -> tuple[Fault, ...]:
    """All faults, those of a file side by side.

    Raises:
        ValueError: for a name that is there twice, and for a kind that there is not.
    """
    found: list[Fault] = []
    for path in sorted(folder.glob("*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            fault = Fault(**{**row, "tests": Selection(*row["tests"])})
            if fault.kind not in KINDS:
                raise ValueError(f"{path.name}: fault {fault.name!r} is of no known kind: {fault.kind!r}")
            if any(fault.name == other.name for other in found):
                raise ValueError(f"{path.name}: there are two faults called {fault.name!r}")
            found.append(fault)
    return tuple(sorted(found, key=lambda fault: fault.file))

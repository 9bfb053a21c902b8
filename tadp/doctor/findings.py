"""What a check comes to: a verdict on one subject, with the way out where it is bad."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum


class Verdict(Enum):
    """How something turned out. `WRONG` alone makes `tadp doctor` fail."""

    OK = "OK"
    SLOWER = "SLOWER"
    WRONG = "WRONG"
    NOT_SERVED = "NOT SERVED"


@dataclass(frozen=True)
class Finding:
    """One line of the result.

    Attributes:
        verdict: how it turned out.
        subject: what was looked at.
        detail: what was found, in figures.
        way_out: what to do about it; "" where nothing is to be done.
    """

    verdict: Verdict
    subject: str
    detail: str
    way_out: str = ""


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Attributes:
        subject: what.
        look: looks, and may raise.
        way_out: what to do where it turns out wrong.
    """

    subject: str
    look: Callable[[], Finding]
    way_out: str

    def run(self) -> Finding:
        """Look; an error is a finding too."""
        try:
            found = self.look()
        except Exception as error:  # whatever a kernel fails with belongs into the report
            found = Finding(Verdict.WRONG, self.subject, f"it fails with {one_line(error)}")
        return replace(found, way_out=self.way_out) if found.verdict is Verdict.WRONG else found


def one_line(error: BaseException) -> str:
    """An error's type and first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

"""What is kept of each forward of a model."""

from collections import deque
from dataclasses import dataclass, replace

from tadp.precision import Plan
from tadp.runtime.signals import Signals

RECORDS_KEPT = 10_000
"""Forwards that a history goes back."""

SIGNALS_KEPT = 250
"""Measured forwards whose signals a history keeps. The signals of one take about 0.3 MB in a model of 40 blocks."""


@dataclass(frozen=True)
class StepRecord:
    """What happened in one forward of the model.

    Attributes:
        generation, step: counted from 1.
        phase: "probe" while a policy measures, "run" otherwise.
        branch: guidance branch, "cond" or "uncond" where the pipeline names none.
        timestep: what the sampler passed; None where the model takes none.
        signals: what this forward measured; None outside probes, and once `SIGNALS_KEPT` later forwards were measured.
        score: total complexity of the content once known.
        plan: what the blocks ran at.
        seconds: wall time of the call on the host.
    """

    generation: int
    step: int
    phase: str
    branch: str
    timestep: float | None
    signals: Signals | None
    score: float | None
    plan: Plan
    seconds: float


class History:
    """The records of the last `RECORDS_KEPT` forwards; the last `SIGNALS_KEPT` measured ones have their signals."""

    def __init__(self) -> None:
        self._records: deque[StepRecord] = deque(maxlen=RECORDS_KEPT)
        self._appended = 0
        self._measured: deque[int] = deque()  # which records have signals, counted from the first one ever appended

    def append(self, record: StepRecord) -> None:
        """Add the record of a forward that has just ended."""
        self._records.append(record)
        if record.signals is not None:
            self._measured.append(self._appended)
        self._appended += 1
        if len(self._measured) > SIGNALS_KEPT:
            self._forget_signals(self._measured.popleft())

    def records(self) -> tuple[StepRecord, ...]:
        """All records that are kept, oldest first."""
        return tuple(self._records)

    def _forget_signals(self, number: int) -> None:
        index = number - (self._appended - len(self._records))
        if index >= 0:
            self._records[index] = replace(self._records[index], signals=None)

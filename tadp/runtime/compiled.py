"""What calibration, report and commands use of a compiled model or pipeline, and of its controller."""

from collections.abc import Sequence
from typing import Any, Protocol

from tadp.complexity.score import Score
from tadp.planning.calibration import Calibration
from tadp.policy import Policy
from tadp.precision import Plan
from tadp.runtime.clock import Clock
from tadp.runtime.explanation import ExplainedLayer, Explanation
from tadp.runtime.record import StepRecord


class Control(Protocol):
    """The part of `tadp.runtime.controller.Controller` that is read and called from outside."""

    @property
    def clock(self) -> Clock: ...
    @property
    def blocks(self) -> tuple[str, ...]: ...
    @property
    def pieces(self) -> tuple[Any, ...]: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def score(self) -> Score | None: ...
    @property
    def calibration(self) -> Calibration | None: ...
    @property
    def history(self) -> Sequence[StepRecord]: ...
    def use(self, policy: str | Policy) -> None: ...
    def layers(self) -> tuple[ExplainedLayer, ...]: ...
    def explain(self) -> Explanation: ...
    def weight_bytes(self) -> int: ...
    @property
    def kept_bytes(self) -> int: ...


class Compiled(Protocol):
    """A model, or a pipeline, that `tadp.compile` returned."""

    @property
    def tadp(self) -> Control: ...
    def __call__(self, *arguments: Any, **named: Any) -> Any: ...


def latest_records(control: Control) -> list[StepRecord]:
    """What was recorded of the latest generation, a value for each forward."""
    return [record for record in control.history if record.generation == control.clock.generation]

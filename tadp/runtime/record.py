"""What a controller keeps of every forward."""

from dataclasses import dataclass

from tadp.precision import Plan
from tadp.runtime.signals.values import Signals


@dataclass(frozen=True)
class StepRecord:
    """What happened in one forward of the model.

    Attributes:
        generation, step: counted from 1.
        phase: "probe" while a policy measures, "run" otherwise.
        branch: guidance branch, "cond" or "uncond" where the pipeline names none.
        timestep: what the sampler passed; None where the model takes none.
        signals: what this forward measured; None outside probes.
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

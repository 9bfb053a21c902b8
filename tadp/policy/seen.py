"""Seen: all that a policy may look at when it chooses a plan."""

from dataclasses import dataclass

from tadp.runtime.signals.values import Signals


@dataclass(frozen=True)
class Seen:
    """What is known when a plan is asked for.

    Attributes:
        blocks: the model's blocks in running order.
        score: complexity of the content in [0, 1]; None until the probe is over.
        signals: what the probe measured, a value for each forward.
        stage: how many of the policy's `stages` the noise has fallen below, 0 to ``len(stages)``.
        step: the step that the plan is for, counted from 1; None where no step is at hand.
        steps: how many steps the generation takes; None where nobody said.
        memory: bytes of device memory that are free; None where that is not known, as on CPUs.
        masters_fit: whether the device has room for the 16-bit weights of all blocks.
        fast_attention: whether attention products at 8 bits take less time than at 16 on the model's device.

    `step` and `memory` change all the time. A policy with ``follows_steps = False`` is not told them.
    """

    blocks: tuple[str, ...]
    score: float | None = None
    signals: tuple[Signals, ...] = ()
    stage: int = 0
    step: int | None = None
    steps: int | None = None
    memory: int | None = None
    masters_fit: bool = True
    fast_attention: bool = True

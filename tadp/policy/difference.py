"""Difference policy: few bits for blocks that change their input little. A rival, as 6Bit-Diffusion describes it."""

from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from tadp.policy import grammar
from tadp.policy.policy import Policy, register
from tadp.policy.seen import Seen
from tadp.precision import L4, L8, Extrapolation, Level, Plan, Recipe, Reuse

_SETTINGS = {
    **grammar.numbers("threshold", "reuse"),
    "narrow": grammar.Setting("narrow", Level.parse, str),
    "probe": grammar.PROBE,
}


@register
@dataclass(frozen=True)
class Difference(Policy):
    """A block runs at `narrow` bits if it changes its input by less than `threshold` while it is measured, else at 8.

    After 6Bit-Diffusion (arXiv 2603.18742): the sensitivity of the layers of a block to rounding is taken to be linear
    in the difference between the block's input and output, so that a threshold on the difference chooses between 4 and
    8 bits; and each block adds its last residual again while it is stable ("temporal delta cache"). The paper chooses
    in every step and between NVFP4 and INT8; here the steps of the probe decide, and 4 bits are integers.

    Attributes:
        threshold: of the relative change of a block's input, at least 0.
        narrow: level below it.
        reuse: bound of reuse of single blocks; 0 for none.
        probe_steps: how many first steps are measured.
    """

    name: ClassVar[str] = "difference"
    usage: ClassVar[str] = f'"difference", optionally with {", ".join(_SETTINGS)}, such as "difference:threshold=0.4"'
    follows_steps: ClassVar[bool] = False

    threshold: float = 0.4
    narrow: Level = L4
    reuse: float = 0.0
    probe_steps: int = 2

    def __post_init__(self) -> None:
        if not self.threshold >= 0 or not self.reuse >= 0:
            raise ValueError(f"threshold and reuse are at least 0, got {self.threshold} and {self.reuse}")

    def recipes(self) -> tuple[Recipe, ...]:
        return self._recipe(L8), self._recipe(self.narrow)

    def plan(self, seen: Seen) -> Plan:
        found: dict[str, list[float]] = {}
        for forward in seen.signals if seen.score is not None else ():
            for block in forward.blocks:
                found.setdefault(block.piece, []).extend(block["relative_change"])
        changes = {block: fmean(values) for block, values in found.items() if values}
        stable = {block for block, change in changes.items() if change < self.threshold}
        plan = Plan.of((block, self._recipe(self.narrow if block in stable else L8)) for block in seen.blocks)
        return plan.because((block, f"changes its input by {change:.0%}") for block, change in changes.items())

    def _recipe(self, level: Level) -> Recipe:
        reuse = Reuse(self.reuse, extrapolation=Extrapolation.CONSTANT) if self.reuse > 0 else None
        return Recipe(level, reuse=reuse)

    @classmethod
    def parse(cls, settings: str) -> "Difference":
        return cls(**grammar.read(grammar.items(settings), _SETTINGS))

    def written(self) -> str:
        return ",".join(grammar.write(self, _SETTINGS))

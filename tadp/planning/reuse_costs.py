"""What reuse of all blocks saves and costs, as calibration measured it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tadp.precision import Plan

Span = tuple[float, float]
"""A value at score 0 and at score 1; a straight line lies between."""


@dataclass(frozen=True)
class ReuseCosts:
    """Errors and savings of leave to reuse (`tadp.precision.Reuse`).

    Reuse is measured for all blocks of a stage together, because it pays only so: blocks that run between reused ones
    see what no step of the model shows them (docs/reuse.md). With bound b in the stages S it is taken to

        add   10^(intercept + slope * score) * factor_b * sum over S of share_s     to the squared error of a clip, and
        leave out the share skipped_(b,s)(score)                                    of the runs of blocks in each s.

    Attributes:
        shares: of the squared errors of clips at 16 bits that reuse in a single stage within `unit`, what each stage
            has. The probe has none.
        unit: that bound.
        intercept, slope: of the decimal logarithm of the sum of those errors over the score.
        factors: by bound: how much larger the error of a clip at the base recipe is with reuse than without, in units
            of that sum. This is how errors of widths and of reuse combine, as measured.
        factor_at_16: the same at 16 bits, within `unit`: 1 where the errors of single stages add up.
        skipped: by bound: in each stage, the share of runs that are left out, for scores of 0 and 1.
        bytes: of the residuals that are kept.
    """

    shares: tuple[float, ...]
    unit: float
    intercept: float
    slope: float
    factors: Mapping[float, float]
    factor_at_16: float
    skipped: Mapping[float, tuple[Span, ...]]
    bytes: int

    @property
    def bounds(self) -> tuple[float, ...]:
        """That were measured, rising."""
        return tuple(sorted(self.factors))

    def mse(self, bounds: Sequence[float], score: float) -> float:
        """What reuse adds to the squared error of a clip. `bounds[stage]`, 0 for none."""
        parts = (share * self.factors[bound] for share, bound in zip(self.shares, bounds, strict=True) if bound > 0)
        return math.pow(10.0, self.intercept + self.slope * score) * sum(parts)

    def running(self, stage: int, bound: float, score: float) -> float:
        """Share of the runs of blocks that are left in a stage."""
        if bound <= 0:
            return 1.0
        at_0, at_1 = self.skipped[bound][stage]
        return min(max(1.0 - at_0 - (at_1 - at_0) * score, 0.0), 1.0)


def bound_of(plan: Plan) -> float:
    """The bound that all blocks of a plan may be reused within; 0 where one of them always runs."""
    return min((0.0 if recipe.reuse is None else recipe.reuse.bound for _, recipe in plan), default=0.0)

"""Errors and costs of a model's recipes, as calibration measured them, and what a schedule of plans comes to."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from tadp.planning.reuse_costs import ReuseCosts, bound_of
from tadp.precision import Plan, Recipe

TIMING_ERROR = 0.03
"""Relative difference of two measured times that may be chance."""

MEDIUM = 0.5
"""The score of content that is neither simple nor complex."""

Schedule = tuple[Plan, ...]
"""A plan for every stage of a generation."""


@dataclass(frozen=True)
class BlockCost:
    """The error and the costs of one block at one recipe.

    Attributes:
        error: by stage, squared relative error of the model's guided prediction with this block alone at this recipe.
        seconds: of the block in all forwards of one step.
        bytes: of weights in memory.
    """

    error: tuple[float, ...]
    seconds: float
    bytes: int


@dataclass(frozen=True)
class Costs:
    """What calibration knows of a model's recipes.

    The squared error of a clip is taken to be

        mse(schedule, score) = 10^(intercept + slope * score) * sum over stages s of share_s * E_s(plan_s) / E_s(base)

    with E_s the sum of the errors of all blocks: errors of single blocks add up, as independent ones do; stages weigh
    as much as lowering them alone was measured to do; and content scales all of it alike.

    Attributes:
        blocks: by block, in running order, and by recipe.
        base: the recipe of all blocks that `shares`, `intercept` and `slope` refer to.
        stages: noise levels that part the stages, see `tadp.policy.Policy`.
        steps: of the calibrated call that lie in each stage.
        shares: of the squared error of a clip at `base` that each stage brings about.
        intercept, slope: of the decimal logarithm of the mean squared error at `base` over the score.
        spread: standard deviation of that logarithm around the line, over contents that the line was not fitted to.
        other_seconds: of a generation outside the blocks.
        other_bytes: of weights outside the blocks.
        reuse: what reuse saves and costs; None where it was not measured or nothing can be reused.
    """

    blocks: Mapping[str, Mapping[Recipe, BlockCost]]
    base: Recipe
    stages: tuple[float, ...]
    steps: tuple[int, ...]
    shares: tuple[float, ...]
    intercept: float
    slope: float
    spread: float
    other_seconds: float
    other_bytes: int
    reuse: ReuseCosts | None = None

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """Every recipe that was measured."""
        return tuple(next(iter(self.blocks.values())))

    def weight(self, stage: int) -> float:
        """What a unit of block error in a stage counts in the squared error of a clip, content aside."""
        return self._weights[stage]

    @cached_property
    def _weights(self) -> tuple[float, ...]:
        at_base = [cost[self.base].error for cost in self.blocks.values()]
        return tuple(share / sum(error[stage] for error in at_base) for stage, share in enumerate(self.shares))

    def error(self, block: str, recipe: Recipe) -> float:
        """Squared error of a clip with one block at a recipe throughout, in units of that of all blocks at `base`."""
        error = self.blocks[block][recipe].error
        return sum(self.weight(stage) * error[stage] for stage in range(len(error)))

    def worthwhile(self, block: str, menu: Sequence[Recipe]) -> tuple[Recipe, ...]:
        """The recipes that gain something for what they lose.

        Left out is each to which there is a more precise one that takes no more bytes, and no more time but for what
        timing cannot tell apart.
        """
        known = self.blocks[block]
        errors = {recipe: self.error(block, recipe) for recipe in menu}

        def beaten(recipe: Recipe) -> bool:
            own = known[recipe]
            return any(
                errors[other] < errors[recipe]
                and known[other].seconds <= own.seconds * (1 + TIMING_ERROR)
                and known[other].bytes <= own.bytes
                for other in menu
            )

        return tuple(recipe for recipe in menu if not beaten(recipe))

    def scale(self, score: float) -> float:
        """Squared error of a clip at `base` for content of a score."""
        return math.pow(10.0, self.intercept + self.slope * score)

    def mse(self, schedule: Sequence[Plan], score: float) -> float:
        """Predicted squared error of a clip, of values in [0, 1]."""
        of_widths = self.scale(score) * sum(
            self.weight(stage) * sum(self.blocks[block][recipe.running].error[stage] for block, recipe in plan)
            for stage, plan in enumerate(schedule)
        )
        return of_widths + (0.0 if self.reuse is None else self.reuse.mse(self._bounds(schedule), score))

    def psnr(self, schedule: Sequence[Plan], score: float, deviations: float = 0.0) -> float:
        """Predicted peak signal-to-noise ratio in dB, less so many standard deviations of the prediction."""
        mse = self.mse(schedule, score)
        return math.inf if mse <= 0 else -10 * (math.log10(mse) + deviations * self.spread)

    def seconds(self, schedule: Sequence[Plan], score: float = MEDIUM) -> float:
        """Predicted seconds of a generation."""
        return self.other_seconds + sum(
            steps * sum(self.blocks[block][recipe.running].seconds for block, recipe in plan)
            for steps, plan in zip(self.running_steps(self._bounds(schedule), score), schedule, strict=True)
        )

    def running_steps(self, bounds: Sequence[float], score: float) -> tuple[float, ...]:
        """How many steps of each stage remain of the runs of blocks, with reuse within `bounds[stage]`."""
        if self.reuse is None:
            return self.steps
        return tuple(
            steps * self.reuse.running(stage, bound, score)
            for stage, (steps, bound) in enumerate(zip(self.steps, bounds, strict=True))
        )

    def bytes(self, schedule: Sequence[Plan]) -> int:
        """Predicted bytes in memory in the stage that needs most: of weights, and of residuals where they are kept."""
        return self.other_bytes + max(self._bytes(plan) for plan in schedule)

    def _bytes(self, plan: Plan) -> int:
        keeps = self.reuse is not None and any(recipe.reuse is not None for _, recipe in plan)
        residuals = self.reuse.bytes if self.reuse is not None and keeps else 0
        return residuals + sum(self.blocks[block][recipe.running].bytes for block, recipe in plan)

    def _bounds(self, schedule: Sequence[Plan]) -> tuple[float, ...]:
        return tuple(0.0 if self.reuse is None else bound_of(plan) for plan in schedule)

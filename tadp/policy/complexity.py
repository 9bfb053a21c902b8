"""Complexity policy: probe two steps at 8 bits, then let the score choose by two thresholds."""

from dataclasses import dataclass, field
from statistics import fmean

from tadp.complexity.score import DEFAULT_RANGES, FeatureRanges, ScoreWeights
from tadp.policy.plans import ends, uniform_plan
from tadp.precision import L6, L8, Plan, Recipe
from tadp.runtime.shadows import DEFAULT_BUDGET
from tadp.runtime.signals import Signals

PROBE_STEPS = 2


@dataclass(frozen=True)
class Complexity:
    """Below `low` 6 bits, below `high` 8, from there 8 with key blocks at 16; first and last block at 16 always.

    Key blocks are the share `key_blocks` of the middle blocks that changed their input most while they were probed.

    Attributes:
        low, high: thresholds of the score, 0 <= low <= high <= 1.
        weights: what text, image and features of the model count in the score; None for the defaults of the task:
            0.6, 0 and 0.4 for text-to-video, 0.3, 0.3 and 0.4 where there is an image.
        key_blocks: share of the middle blocks in [0, 1].
        ranges: where this model's signals lie between simple and complex content; wide defaults where it is not known.
        shadow_budget: share of the time of probe steps in [0, 1] that may go into running blocks once more at another
            level, to measure what the level changes; 0 for none of it.
    """

    low: float = 0.3
    high: float = 0.7
    weights: ScoreWeights | None = None
    key_blocks: float = 0.25
    ranges: FeatureRanges = field(default_factory=lambda: DEFAULT_RANGES, hash=False)
    shadow_budget: float = DEFAULT_BUDGET

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"thresholds must satisfy 0 <= low <= high <= 1, got low={self.low}, high={self.high}")
        if not 0 <= self.key_blocks <= 1:
            raise ValueError(f"key_blocks must be a share between 0 and 1, got {self.key_blocks}")
        if not 0 <= self.shadow_budget <= 1:
            raise ValueError(f"shadow_budget must be a share between 0 and 1, got {self.shadow_budget}")

    @property
    def probe_steps(self) -> int:
        return PROBE_STEPS

    def recipes(self) -> tuple[Recipe, ...]:
        return Recipe(L8), Recipe(L6), Recipe()

    def plan(self, blocks: tuple[str, ...], score: float | None = None, signals: tuple[Signals, ...] = ()) -> Plan:
        if score is None:
            return uniform_plan(blocks, Recipe(L8), keep_ends=True)
        if score < self.low:
            return uniform_plan(blocks, Recipe(L6), keep_ends=True)
        plan = uniform_plan(blocks, Recipe(L8), keep_ends=True)
        if score < self.high:
            return plan
        middle = tuple(block for block in blocks if block not in ends(blocks))
        keys = self._most_changing(middle, signals)
        return Plan.of((block, Recipe() if block in keys else recipe) for block, recipe in plan)

    def _most_changing(self, middle: tuple[str, ...], signals: tuple[Signals, ...]) -> set[str]:
        changes: dict[str, list[float]] = {block: [] for block in middle}
        for step in signals:
            for block in step.blocks:
                if block.piece in changes:
                    changes[block.piece] += block.relative_change
        count = round(len(middle) * self.key_blocks)
        ranked = sorted(middle, key=lambda block: fmean(changes[block]) if changes[block] else 0.0, reverse=True)
        return set(ranked[:count])

    def __str__(self) -> str:
        return "complexity"

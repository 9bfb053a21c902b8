"""Budget policy: the fastest plan within a bound on the error, or the least error within limits of time and memory."""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

from tadp.complexity.score import DEFAULT_RANGES, FeatureRanges, ScoreWeights
from tadp.errors import CalibrationWarning, QualityWarning
from tadp.planning.calibration import Calibration
from tadp.planning.costs import Costs, Schedule
from tadp.planning.planner import Planner
from tadp.policy import grammar
from tadp.policy.complexity import PROBE_STEPS
from tadp.policy.plans import END
from tadp.policy.policy import Policy, Scoring, register
from tadp.policy.seen import Seen
from tadp.precision import Plan, Recipe
from tadp.runtime.shadows import DEFAULT_BUDGET

_MEASURED = "chosen for content of medium complexity, and measured by the probe"

_SETTINGS = {
    **grammar.numbers("quality", "latency", "memory", "deviations"),
    "ends": grammar.ENDS,
    "recipes": grammar.RECIPES,
    **grammar.numbers("shadow_budget", "reuse"),
}


@register
@dataclass(frozen=True)
class Budget(Policy):
    """Levels of every block in every stage of a generation, solved for each content from what calibration measured.

    The probe runs at what the bounds allow for content of medium complexity. Then a score is known, with it the error
    that every plan would make on this content, and the best plan within the bounds is chosen: the recipe of every block
    in every stage, and from which stage on blocks may be reused, within which bound. Needs a calibration:
    ``tadp.compile(model, policy=Budget(quality=40), calibration="calibration.json")``.

    Attributes:
        quality: predicted PSNR against 16 bits, in dB, that is to be reached as fast as possible. None: as much as the
            other limits allow.
        latency: seconds that a generation of the calibrated call may take.
        memory: bytes that weights, and residuals for reuse, may take.
        deviations: how many standard deviations of its prediction the error is overestimated by; 0 meets the bound
            on average, 1 for five contents out of six.
        keep_ends: leaves first and last block at 16 bits, attention included.
        recipes_allowed: the levels to choose from; None for all that were calibrated.
        costs, ranges, weights: from calibration.
        shadow_budget: as of `Complexity`.
        reuse: the largest bound of reuse (`tadp.precision.Reuse`) to choose from, of those that were calibrated; 0 for
            none.

    Raises:
        ValueError: for bounds that are not finite and above 0, or none at all, and for no recipes to choose from.
    """

    name: ClassVar[str] = "budget"
    usage: ClassVar[str] = (
        '"budget:BOUNDS" with bounds on quality (dB), latency (s) and memory (bytes), optionally deviations, '
        'ends=free, recipes, reuse and shadow_budget, such as "budget:quality=40,latency=5,recipes=16/8/8+attention:8"'
    )
    follows_steps: ClassVar[bool] = False

    quality: float | None = None
    latency: float | None = None
    memory: float | None = None
    deviations: float = 0.0
    keep_ends: bool = True
    recipes_allowed: tuple[Recipe, ...] | None = None
    costs: Costs | None = field(default=None, hash=False, repr=False)
    ranges: FeatureRanges = field(default_factory=lambda: DEFAULT_RANGES, hash=False, repr=False)
    weights: ScoreWeights | None = None
    shadow_budget: float = DEFAULT_BUDGET
    reuse: float = math.inf

    def __post_init__(self) -> None:
        bounds = {name: getattr(self, name) for name in ("quality", "latency", "memory")}
        if all(bound is None for bound in bounds.values()):
            raise ValueError("a budget needs a bound: quality in dB, latency in seconds or memory in bytes")
        for name, bound in bounds.items():
            if bound is not None and not (math.isfinite(bound) and bound > 0):
                raise ValueError(f"{name} must be finite and above 0, got {bound}")
        if not self.reuse >= 0:
            raise ValueError(f"reuse must be a bound of at least 0, got {self.reuse}")
        if self.recipes_allowed == ():
            raise ValueError("recipes_allowed holds no recipe to choose from")

    def calibrated(self, calibration: Calibration) -> "Budget":
        """The same bounds, with what was measured of a model; weights that were given stay.

        Raises:
            ValueError: where no plan lies within latency and memory; the message says what is possible.
        """
        weights = self.weights or calibration.weights
        found = replace(self, costs=calibration.costs, ranges=calibration.ranges, weights=weights)
        found._planner.check_limits()
        return found

    @property
    def probe_steps(self) -> int:
        return PROBE_STEPS

    @property
    def scoring(self) -> Scoring:
        return Scoring(self.ranges, self.weights)

    @property
    def stages(self) -> tuple[float, ...]:
        return self._known.stages

    def recipes(self) -> tuple[Recipe, ...]:
        return self._planner.worthwhile

    def plan(self, seen: Seen) -> Plan:
        blocks, score, stage, planner = seen.blocks, seen.score, seen.stage, self._planner
        self._check_blocks(blocks)
        self._check_steps(seen.steps)
        if score is None:
            first = Plan.of((block, planner.probe[block]) for block in blocks)
            return first.because((block, END if block in planner.kept else _MEASURED) for block, _ in first)
        schedule, within = planner.solve(score)
        if not within:
            warnings.warn(self._missed(schedule, planner.rounded(score)), QualityWarning, stacklevel=2)
        chosen = dict(schedule[stage])
        return Plan.of((block, chosen[block]) for block in blocks).because(self._reasons(schedule[stage], stage))

    def schedule(self, score: float) -> Schedule:
        """The plan of every stage for content of a score; the first stage is the probe's."""
        return self._planner.schedule(score)

    @property
    def _known(self) -> Costs:
        if self.costs is None:
            raise ValueError(
                "Budget plans from what calibration measured: run `tadp calibrate` and pass its file to tadp.compile "
                "as calibration=..."
            )
        return self.costs

    @cached_property
    def _planner(self) -> Planner:
        return Planner(
            costs=self._known,
            recipes=self._known.recipes if self.recipes_allowed is None else self.recipes_allowed,
            keep_ends=self.keep_ends,
            quality=self.quality,
            latency=self.latency,
            memory=self.memory,
            deviations=self.deviations,
            reuse=self.reuse,
        )

    def _missed(self, schedule: Schedule, score: float) -> str:
        """Which bound cannot be kept for this content, and what is predicted instead."""
        seconds = self._known.seconds(schedule, score)
        if self.latency is not None and seconds > self.latency * (1 + 1e-6):
            return f"{self.latency:g} s cannot be promised for this content: {seconds:.2f} s is the best prediction"
        found = self._known.psnr(schedule, score, self.deviations)
        return f"{self.quality:g} dB cannot be promised for this content: {found:.1f} dB is the best prediction"

    def _check_steps(self, steps: int | None) -> None:
        calibrated = sum(self._known.steps)
        if steps not in (None, calibrated):
            warnings.warn(
                f"this generation takes {steps} steps and the calibration is of {calibrated}: predicted errors and "
                "seconds are not of this call. Calibrate with --steps, or sample with as many",
                CalibrationWarning,
                stacklevel=3,
            )

    def _check_blocks(self, blocks: tuple[str, ...]) -> None:
        unknown = [block for block in blocks if block not in self._known.blocks]
        if unknown:
            raise ValueError(f"block {unknown[0]} was not calibrated: calibrate this model anew with `tadp calibrate`")

    def _reasons(self, plan: Plan, stage: int) -> Iterator[tuple[str, str]]:
        costs, kept = self._known, self._planner.kept
        whole = _error(costs, plan, stage)
        for block, recipe in plan:
            known = costs.blocks[block]
            saved = 1 - known[recipe.running].seconds / known[Recipe()].seconds
            share = known[recipe.running].error[stage] / whole if whole else 0.0
            yield block, END if block in kept else f"saves {saved:.0%} of its time for {share:.0%} of the error"

    @classmethod
    def parse(cls, settings: str) -> "Budget":
        return cls(**grammar.read(grammar.items(settings), _SETTINGS))

    def written(self) -> str:
        return ",".join(grammar.write(self, _SETTINGS))


def _error(costs: Costs, plan: Plan, stage: int) -> float:
    return sum(costs.blocks[block][recipe.running].error[stage] for block, recipe in plan)

"""Complexity policy: the first steps as they are, two of them measured; the score says how soon cheap ones follow."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import ClassVar

from tadp.complexity import text
from tadp.complexity.score import DEFAULT_RANGES, FeatureRanges, ScoreWeights
from tadp.planning.blocks import ends
from tadp.planning.calibration import Calibration
from tadp.policy import grammar
from tadp.policy.plans import END, uniform_plan
from tadp.policy.policy import Policy, Scoring, register
from tadp.policy.seen import Seen
from tadp.policy.static import Static
from tadp.precision import L6, L8, L16, Level, Plan, Recipe, Reuse
from tadp.runtime.shadows import DEFAULT_BUDGET
from tadp.runtime.signals import Signals

PROBE_STEPS = 2
STEPS_PER_PROBE_STEP = 4
"""A probe takes at most one step in so many. Generations of fewer steps have none: their prompt has to tell."""


def _read_three(text: str) -> tuple[float, ...]:
    """Three numbers that slashes part, or one for all scores."""
    found = tuple(map(grammar.number, text.split("/")))
    return found * 3 if len(found) == 1 else found


def _write_three(numbers: tuple[float, ...]) -> str:
    one = numbers[:1] if len(set(numbers)) == 1 else numbers
    return "/".join(map(grammar.digits, one))


_SETTINGS = {
    **grammar.numbers("low", "high", "key_blocks", "shadow_budget", "guidance"),
    **{name: grammar.Setting(name, _read_three, _write_three) for name in ("late", "reuse")},
    **{name: grammar.Setting(name, Level.parse, str) for name in ("early", "probe", "lowest")},
}


@register
@dataclass(frozen=True)
class Complexity(Policy):
    """The model as it is until the noise has fallen so far that a clip is settled, then 8 bits, attention, and reuse.

    | score | below `low` | below `high` | from `high` on |
    | --- | --- | --- | --- |
    | 16 bits until the noise falls below `late` | 0.9 | 0.85 | 0.75 |
    | from then on | 8, attention at 8 | 8, attention at 8 | 8, attention at 8, key blocks at 16 |

    What a clip shows is settled in the first steps. An error there leads everything that follows astray, so these steps
    run at `early`, the first two of them measured; simple content is settled sooner. Later errors are several times
    smaller in the clip (docs/policies.md has the figures), and 8 bits, 8-bit attention products and reuse save most
    of the time: blocks that hardly change from step to step do not run (`tadp.precision.Reuse`).

    In late steps the first and the last block are at 16 bits, unless a calibration found them no more sensitive than
    others. Content below `low` runs at 6 bits where a calibration found that they take less time or memory than 8.
    Attention products run at 16 bits where the device is no faster at 8. Where a device has no room for the 16-bit
    weights beside the packed ones, early steps keep activations at 16 bits and weights at 8, which is w8a16.

    Key blocks are the share `key_blocks` of the middle blocks that a calibration found most sensitive; without one,
    those that changed their input most while they were probed.

    Attributes:
        low, high: thresholds of the score, 0 <= low <= high <= 1.
        weights: what text, image and features of the model count in the score; None for the defaults of the task:
            0.6, 0 and 0.4 for text-to-video, 0.3, 0.3 and 0.4 where there is an image.
        key_blocks: share of the middle blocks in [0, 1].
        ranges: where this model's signals lie between simple and complex content; wide defaults where it is not known.
        shadow_budget: share of the time of probe steps in [0, 1] that may go into running blocks once more at another
            level, to measure what the level changes; 0 for none of it.
        late: noise levels, as shares of the first step's, below which steps are late, for scores below `low`, below
            `high` and above; they do not rise.
        early: level of the steps before.
        probe: level of the middle blocks while they are measured; None for `early`.
        reuse: bounds of reuse in late steps for the same three classes of scores, or one for all; 0 for none.
        guidance: bound of leaving out the forward without the prompt (`tadp.runtime.guidance`); 0 never does.
        sensitive: middle blocks from the most to the least sensitive, from calibration.
        kept: first and last blocks that stay at 16 bits, from calibration; None for all of them.
        lowest: level below `low`; a calibration chooses it. 8 unless told: on no device are 6 or 4 bits known to be
            faster than 8 for many tokens.
        text_scorer: scores prompts; `tadp.complexity.bert.score` is another one. A calibration sets it back, as the
            score was fitted to the default.
    """

    name: ClassVar[str] = "complexity"
    usage: ClassVar[str] = (
        f'"complexity", optionally with {", ".join(_SETTINGS)}, such as "complexity:low=0.2,high=0.8"'
    )
    follows_steps: ClassVar[bool] = False

    low: float = 0.3
    high: float = 0.7
    weights: ScoreWeights | None = None
    key_blocks: float = 0.25
    ranges: FeatureRanges = field(default_factory=lambda: DEFAULT_RANGES, hash=False)
    shadow_budget: float = DEFAULT_BUDGET
    sensitive: tuple[str, ...] = ()
    kept: frozenset[str] | None = None
    lowest: Level = L8
    late: tuple[float, float, float] = (0.9, 0.85, 0.75)
    early: Level = L16
    probe: Level | None = None
    reuse: float | tuple[float, ...] = (0.005, 0.005, 0.005)
    guidance: float = 0.0
    text_scorer: Callable[[str], text.TextScore] = text.score

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"thresholds must satisfy 0 <= low <= high <= 1, got low={self.low}, high={self.high}")
        if not 0 <= self.key_blocks <= 1:
            raise ValueError(f"key_blocks must be a share between 0 and 1, got {self.key_blocks}")
        if len(self.late) != 3 or not 0 < self.late[2] <= self.late[1] <= self.late[0] <= 1:
            raise ValueError(f"late must be three noise levels in (0, 1] that do not rise, got {self.late}")
        if not isinstance(self.reuse, tuple):
            object.__setattr__(self, "reuse", (self.reuse,) * 3)
        if len(self._bounds) != 3 or not all(bound >= 0 for bound in self._bounds):
            raise ValueError(f"reuse must be a bound of at least 0, or three of them, got {self.reuse}")
        if not self.guidance >= 0:
            raise ValueError(f"guidance must be a bound of at least 0, got {self.guidance}")
        if not 0 <= self.shadow_budget <= 1:
            raise ValueError(f"shadow_budget must be a share between 0 and 1, got {self.shadow_budget}")
        if not callable(self.text_scorer):
            raise TypeError(
                f"text_scorer must be a function such as tadp.complexity.text.score, got {self.text_scorer!r}"
            )

    def calibrated(self, calibration: Calibration) -> "Complexity":
        """The same thresholds, with what was measured of a model; weights that were given stay.

        Prompts are scored by `tadp.complexity.text.score` from here on, whatever `text_scorer` was: that is the score
        which the calibration was fitted to.
        """
        costs = calibration.costs
        first_and_last = ends(tuple(costs.blocks))
        at_8 = {block: costs.error(block, Recipe(L8)) for block in costs.blocks}
        middle = [block for block in costs.blocks if block not in first_and_last]
        most = max((at_8[block] for block in middle), default=0.0)
        choices = (Recipe(L8), Recipe(L6))
        return replace(
            self,
            ranges=calibration.ranges,
            weights=self.weights or calibration.weights,
            sensitive=tuple(sorted(middle, key=lambda block: at_8[block], reverse=True)),
            kept=frozenset(block for block in first_and_last if at_8[block] > most),
            lowest=L6 if any(Recipe(L6) in costs.worthwhile(block, choices) for block in middle) else L8,
            text_scorer=text.score,
        )

    @property
    def _bounds(self) -> tuple[float, ...]:
        """Of reuse, by class of score."""
        return self.reuse if isinstance(self.reuse, tuple) else (self.reuse,)

    @property
    def probe_steps(self) -> int:
        return PROBE_STEPS

    def probe_steps_of(self, steps: int | None) -> int:
        return PROBE_STEPS if steps is None else min(PROBE_STEPS, steps // STEPS_PER_PROBE_STEP)

    @property
    def scoring(self) -> Scoring:
        return Scoring(self.ranges, self.weights, self.text_scorer)

    @property
    def stages(self) -> tuple[float, ...]:
        return tuple(sorted({*self.late}, reverse=True))

    def recipes(self) -> tuple[Recipe, ...]:
        early = (self.early, self.early.without_master, *([] if self.probe is None else [self.probe]))
        late = (L8, self.lowest, L16)
        recipes = (*map(_recipe, early), *(_recipe(level, attention) for level in late for attention in (L8, L16)))
        return tuple(dict.fromkeys(recipes))

    def plan(self, seen: Seen) -> Plan:
        early = self.early if seen.masters_fit else self.early.without_master
        room = "" if early == self.early else "; no room for 16-bit weights"
        if seen.score is None:
            return self._early_plan(seen, self.probe or early, f"no score so far{room}", max(self._bounds))
        of_class = (seen.score >= self.low) + (seen.score >= self.high)
        until = self.late[of_class]
        if seen.stage <= self.stages.index(until):
            why = f"score {seen.score:.2f}: until noise {until:g}{room}"
            return self._early_plan(seen, early, why, self._bounds[of_class])
        level = self.lowest if of_class == 0 else L8
        attention = L8 if seen.fast_attention else L16
        kept = ends(seen.blocks) if self.kept is None else self.kept
        middle = tuple(block for block in seen.blocks if block not in kept)
        keys = self._keys(middle, seen.signals) if of_class == 2 else {}
        levels = {block: level if block in middle and block not in keys else L16 for block in seen.blocks}
        reuse, guidance = map(_leave, (self._bounds[of_class], self.guidance))
        recipes = tuple((block, _recipe(own, attention, reuse)) for block, own in levels.items())
        why = f"score {seen.score:.2f}: from noise {until:g} on"
        return Plan(recipes, tuple(self._reasons(seen.blocks, middle, keys, why)), guidance)

    def _keys(self, middle: tuple[str, ...], signals: tuple[Signals, ...]) -> dict[str, str]:
        """Key blocks, each with the reason."""
        count = round(len(middle) * self.key_blocks)
        if self.sensitive:
            ranked = [block for block in self.sensitive if block in middle]
            return dict.fromkeys(ranked[:count], "key block: among the most sensitive in calibration")
        changes = {block: _mean_of("relative_change", block, signals) or 0.0 for block in middle}
        ranked = sorted(middle, key=lambda block: changes[block], reverse=True)
        return {block: f"key block: changes its input by {changes[block]:.0%}" for block in ranked[:count]}

    def _early_plan(self, seen: Seen, level: Level, why: str, bound: float) -> Plan:
        """All blocks at one level, but the first and the last at 16 bits; late steps need residuals."""
        reuse, guidance = (None if later <= 0 else Reuse(0.0) for later in (bound, self.guidance))
        plan = uniform_plan(seen.blocks, _recipe(level, reuse=reuse), keep_ends=True)
        reasons = ((block, why if recipe.default == level else END) for block, recipe in plan)
        return Plan(plan.recipes, tuple(reasons), guidance)

    def _reasons(
        self, blocks: tuple[str, ...], middle: tuple[str, ...], keys: dict[str, str], why: str
    ) -> Iterator[tuple[str, str]]:
        for block in blocks:
            yield block, END if block not in middle else keys.get(block, why)

    @classmethod
    def parse(cls, settings: str) -> "Complexity":
        return cls(**grammar.read(grammar.items(settings), _SETTINGS))

    def written(self) -> str:
        return ",".join(grammar.write(self, _SETTINGS))


def _leave(bound: float) -> Reuse | None:
    """Leave to reuse in late steps; None where there is none."""
    return None if bound <= 0 else Reuse(bound)


def _recipe(level: Level, attention: Level = L16, reuse: Reuse | None = None) -> Recipe:
    return Static(level, attention=attention, reuse=reuse).recipe


def _mean_of(signal: str, piece: str, signals: tuple[Signals, ...]) -> float | None:
    """Mean of a block's signal over all samples and forwards of a probe; None where it was not measured."""
    found: list[float] = []
    for forward in signals:
        for block in forward.blocks:
            if block.piece == piece:
                found += block[signal]
    return fmean(found) if found else None

"""Complexity policy: probe two steps at 8 bits, then let two thresholds of the score and one of the noise choose."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import ClassVar

from tadp.complexity import text
from tadp.complexity.score import DEFAULT_RANGES, FeatureRanges, ScoreWeights
from tadp.planning.blocks import ends
from tadp.planning.calibration import Calibration
from tadp.policy import grammar
from tadp.policy.plans import END, probe_plan
from tadp.policy.policy import Policy, Scoring, register
from tadp.policy.seen import Seen
from tadp.policy.static import Static
from tadp.precision import L6, L8, L16, Level, Plan, Recipe, Reuse
from tadp.runtime.shadows import DEFAULT_BUDGET
from tadp.runtime.signals import Signals

PROBE_STEPS = 2

_SETTINGS = {
    **grammar.numbers("low", "high", "key_blocks", "shadow_budget", "late", "reuse", "guidance"),
    "lowest": grammar.Setting("lowest", Level.parse, str),
}


@register
@dataclass(frozen=True)
class Complexity(Policy):
    """8-bit weights; activations at 16 bits while that counts, and at 8 for simple content and afterwards.

    | noise | score below `low` | below `high` | from `high` on |
    | --- | --- | --- | --- |
    | the probe | 8 | 8 | 8 |
    | until `late` | 8 | w8a16 | w8a16, key blocks at 16 |
    | below `late` | 8, attention at 8 | 8, attention at 8 | 8, attention at 8, key blocks at 16 |

    The first and the last block are at 16 bits, unless a calibration found them no more sensitive than others. Content
    below `low` runs at 6 bits where a calibration found that they take less time or memory than 8. Attention products
    run at 16 bits where the device is no faster at 8.

    Once the noise has fallen below `late`, what is left to decide are details: errors count several times less there
    (docs/policies.md has the figures). From then on blocks that hardly change from step to step are reused, see
    `tadp.precision.Reuse`.

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
        late: noise level, as a share of the first step's, below which steps are late.
        reuse: bound of reuse in late steps; 0 for none.
        guidance: bound of leaving out the forward without the prompt, likewise (`tadp.runtime.guidance`).
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
    late: float = 0.8
    reuse: float = 0.0075
    guidance: float = 0.0
    text_scorer: Callable[[str], text.TextScore] = text.score

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high <= 1:
            raise ValueError(f"thresholds must satisfy 0 <= low <= high <= 1, got low={self.low}, high={self.high}")
        if not 0 <= self.key_blocks <= 1:
            raise ValueError(f"key_blocks must be a share between 0 and 1, got {self.key_blocks}")
        if not 0 < self.late <= 1:
            raise ValueError(f"late must be a noise level in (0, 1], got {self.late}")
        for name in ("reuse", "guidance"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be a bound of at least 0, got {getattr(self, name)}")
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
    def probe_steps(self) -> int:
        return PROBE_STEPS

    @property
    def scoring(self) -> Scoring:
        return Scoring(self.ranges, self.weights, self.text_scorer)

    @property
    def stages(self) -> tuple[float, ...]:
        return (self.late,)

    def recipes(self) -> tuple[Recipe, ...]:
        early = tuple(dict.fromkeys((L8, self.lowest, _W8A16, L16)))
        late = tuple(dict.fromkeys((L8, self.lowest, L16)))
        return (*map(_recipe, early), *(_recipe(level, L8) for level in late))

    def plan(self, seen: Seen) -> Plan:
        score = seen.score
        reuse, guidance = (_leave(bound, seen) for bound in (self.reuse, self.guidance))
        if score is None:
            early = probe_plan(seen.blocks)
            recipes = tuple((block, replace(recipe, reuse=reuse)) for block, recipe in early)
            return Plan(recipes, early.reasons, guidance)
        level, why = self._level(score, late=seen.stage > 0)
        attention = L8 if seen.stage and seen.fast_attention else L16
        kept = ends(seen.blocks) if self.kept is None else self.kept
        middle = tuple(block for block in seen.blocks if block not in kept)
        keys = self._keys(middle, seen.signals) if score >= self.high else {}
        levels = {block: level if block in middle and block not in keys else L16 for block in seen.blocks}
        recipes = tuple((block, _recipe(own, attention, reuse)) for block, own in levels.items())
        return Plan(recipes, tuple(self._reasons(seen.blocks, middle, keys, why)), guidance)

    def _level(self, score: float, late: bool) -> tuple[Level, str]:
        """Level of middle blocks that are no key blocks, and the reason."""
        if score < self.low:
            return self.lowest, f"score {score:.2f} is below {self.low:g}"
        return (L8, f"score {score:.2f}; late") if late else (_W8A16, f"score {score:.2f}; early")

    def _keys(self, middle: tuple[str, ...], signals: tuple[Signals, ...]) -> dict[str, str]:
        """Key blocks, each with the reason."""
        count = round(len(middle) * self.key_blocks)
        if self.sensitive:
            ranked = [block for block in self.sensitive if block in middle]
            return dict.fromkeys(ranked[:count], "key block: among the most sensitive in calibration")
        changes = {block: _mean_of("relative_change", block, signals) or 0.0 for block in middle}
        ranked = sorted(middle, key=lambda block: changes[block], reverse=True)
        return {block: f"key block: changes its input by {changes[block]:.0%}" for block in ranked[:count]}

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


_W8A16 = Level.parse("w8a16")


def _leave(bound: float, seen: Seen) -> Reuse | None:
    """Leave to reuse; None where there is none. Before late steps nothing is reused, but residuals are kept."""
    return None if bound <= 0 else Reuse(bound if seen.stage and seen.score is not None else 0.0)


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

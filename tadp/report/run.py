"""One generation under one policy: the clip, and what the controllers recorded while it was sampled."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tadp.complexity.score import Score
from tadp.precision import Level, Plan, Recipe
from tadp.runtime.record import StepRecord
from tadp.runtime.signals import BlockSignals
from tadp.runtime.signals.declarations import DELTA, column_of


@dataclass(frozen=True)
class Observed:
    """What one controller recorded.

    Attributes:
        history: the records of the generation.
        score: of its content.
        plan: the last one.
        weight_bytes: of weights in memory at its end.
        kept_bytes: of residuals for reuse, the most that were kept at a time.
    """

    history: tuple[StepRecord, ...]
    score: Score | None
    plan: Plan
    weight_bytes: int
    kept_bytes: int = 0


@dataclass(frozen=True)
class Run:
    """A clip and what each transformer's controller saw while it was sampled.

    Attributes:
        policy: The policy's name.
        clip: ``(frames, height, width, 3)`` in [0, 1].
        seconds: Wall time of the whole call.
        observed: By transformer, of which some models have two.
        timed_steps: Seconds of each step but the first, measured from outside; empty where the pipeline offers no way.
    """

    policy: str
    clip: np.ndarray
    seconds: float
    observed: Mapping[str, Observed]
    timed_steps: tuple[float, ...] = ()

    @property
    def weight_bytes(self) -> int:
        return sum(seen.weight_bytes for seen in self.observed.values())

    @property
    def kept_bytes(self) -> int:
        return sum(seen.kept_bytes for seen in self.observed.values())

    @property
    def score(self) -> Score | None:
        """The first score that a controller came to; None where the policy took none."""
        return next((seen.score for seen in self.observed.values() if seen.score is not None), None)

    def records(self) -> list[tuple[str, int, StepRecord]]:
        """Records of all transformers, each with its transformer's name and its step in the whole generation.

        Where two transformers share a generation, each counts its own steps, but the timesteps tell the order.
        """
        records = [(module, record) for module, seen in self.observed.items() for record in seen.history]
        timesteps = {record.timestep for _, record in records if record.timestep is not None}
        if len(self.observed) == 1 or any(record.timestep is None for _, record in records):
            return [(module, record.step, record) for module, record in records]
        ranks: dict[float | None, int] = {
            timestep: rank for rank, timestep in enumerate(sorted(timesteps, reverse=True), start=1)
        }
        return [(module, ranks[record.timestep], record) for module, record in records]

    def seconds_per_step(self) -> float | None:
        """Mean time of a sampling step, all guidance branches together; None without steps.

        The mean, because steps differ: in some of them blocks are reused.
        """
        steps = self.timed_steps or tuple(self._recorded_steps().values())
        return statistics.fmean(steps) if steps else None

    def _recorded_steps(self) -> dict[int, float]:
        steps: dict[int, float] = defaultdict(float)
        for _, step, record in self.records():
            steps[step] += record.seconds
        return steps

    def piece_name(self, module: str, piece: str) -> str:
        """A piece's name, led by its transformer's only where there are several."""
        return piece if len(self.observed) == 1 else f"{module}/{piece}"

    def levels(self) -> dict[str, int]:
        """How often each mix of levels was used, the most frequent first; every piece counts in every forward."""
        counts: Counter[str] = Counter()
        for _, _, record in self.records():
            counts.update("+".join(str(level) for level in recipe_levels(recipe)) for _, recipe in record.plan)
        return dict(counts.most_common())


def recipe_levels(recipe: Recipe) -> tuple[Level, ...]:
    """The levels of a recipe: that of most roles first, then those that only some roles have, the widest first."""
    others = {level for _, level in recipe.overrides} - {recipe.default}
    return (recipe.default, *sorted(others, reverse=True))


def finite_mean(values: Sequence[float]) -> float | None:
    """The mean of the finite values; None where there is none."""
    finite = [float(value) for value in values if np.isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def block_signals(run: Run) -> dict[int, dict[str, dict[str, float]]]:
    """Signals by step, by piece, by the name that their declaration shows, as means over samples and guidance branches.

    Of several layers, widths or recipes the highest counts: one layer with outliers is enough to make a width fail.
    """
    gathered: dict[int, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for module, step, record in run.records():
        for block in record.signals.blocks if record.signals is not None else ():
            place = gathered[step][run.piece_name(module, block.piece)]
            for shown, rows in _shown(block).items():
                place[shown].extend(rows[0] if len(rows) == 1 else _highest(rows))
    return {
        step: {
            piece: {name: mean for name, values in signals.items() if (mean := finite_mean(values)) is not None}
            for piece, signals in pieces.items()
        }
        for step, pieces in sorted(gathered.items())
    }


def _shown(block: BlockSignals) -> dict[str, list[Sequence[float]]]:
    """All values of a block that are shown, by the name that they are shown under."""
    found: dict[str, list[Sequence[float]]] = {}
    for (name, _), values in block.values.items():
        column = column_of(name)
        if column is not None and column.shown and not name.endswith(DELTA):
            found.setdefault(column.shown, []).append(values)
    return found


def _highest(rows: Iterable[Sequence[float]]) -> list[float]:
    """The highest of some means over samples, if there is any."""
    means = [mean for values in rows if (mean := finite_mean(values)) is not None]
    return [max(means)] if means else []

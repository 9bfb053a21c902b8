"""What reuse saves and costs, from clips with reuse in single stages, in all of them, and on top of lower widths."""

import math
import statistics
from collections.abc import Sequence

import numpy as np

from tadp.calibration.clip_policies import BASE, BOUNDS, UNIT, reuse_windows, reusing
from tadp.calibration.line import SMALLEST, fit_line
from tadp.calibration.samples import Sample
from tadp.extras import need
from tadp.planning.reuse_costs import ReuseCosts, Span
from tadp.precision import Recipe

stats = need("scipy.stats", "calibrate", "fitting lines needs SciPy")


def fit_reuse(
    samples: Sequence[Sample], scores: Sequence[float], stages: tuple[float, ...], counts: Sequence[int]
) -> ReuseCosts | None:
    """Put clips together; None where nothing was left out in any of them, or in none of those at 16 bits.

    Args:
        samples: with outcomes of `clip_policies.of_all` and `of_some`.
        scores: of their content.
        stages: noise levels that part a generation.
        counts: of steps in each stage.
    """
    at_base = {bound: reusing(BASE.recipe, bound, stages).key for bound in BOUNDS}
    skipped = {
        bound: tuple(_skipped(samples, scores, policy, steps) for steps in _steps(counts))
        for bound, policy in at_base.items()
    }
    if not any(share for spans in skipped.values() for span in spans for share in span):
        return None
    single = [policy.key for policy in reuse_windows(stages)]
    sums = [max(sum(sample.outcomes[policy].mse for policy in single), SMALLEST) for sample in samples]
    line = fit_line(scores, [math.log10(total) for total in sums])
    # A mean: reuse happens in a few steps or in none, so the median content may have no error in a stage at all.
    parts = [
        statistics.fmean(sample.outcomes[policy].mse / total for sample, total in zip(samples, sums, strict=True))
        for policy in single
    ]
    if not sum(parts):
        return None
    shares = (0.0, *(part / sum(parts) for part in parts))

    def factor(policy: str, without: str | None) -> float:
        added = (
            (sample.outcomes[policy].mse - (sample.outcomes[without].mse if without else 0.0))
            / math.pow(10.0, line.intercept + line.slope * score)
            for sample, score in zip(samples, scores, strict=True)
        )
        return max(statistics.median(added), 0.0)

    measured = {bound: factor(at_base[bound], BASE.key) for bound in BOUNDS}
    left_out = {bound: sum(n * sum(span) for n, span in zip(counts, skipped[bound], strict=True)) for bound in BOUNDS}
    # Chance moves clips at 8 bits nearer to 16 as well as away, so a median may be 0. No run is left out for nothing:
    # each costs what it costs at the bound where it costs least, or at 16 bits where it seems to cost nothing at all.
    rates = [measured[bound] / left_out[bound] for bound in BOUNDS if measured[bound] > 0 < left_out[bound]]
    rate = min(rates, default=1.0 / max(left_out[UNIT], 1e-9))
    found = [max(measured[bound], rate * left_out[bound]) for bound in BOUNDS]
    return ReuseCosts(
        shares=shares,
        unit=UNIT,
        intercept=line.intercept,
        slope=line.slope,
        factors=dict(zip(BOUNDS, np.maximum.accumulate(found).tolist(), strict=True)),  # more leave errs no less
        factor_at_16=factor(reusing(Recipe(), UNIT, stages).key, None),
        skipped=skipped,
        bytes=max(sample.outcomes[policy].kept_bytes for sample in samples for policy in at_base.values()),
    )


def _steps(counts: Sequence[int]) -> list[range]:
    """Indices of the steps of every stage."""
    ends = np.cumsum(counts).tolist()
    return [range(end - count, end) for end, count in zip(ends, counts, strict=True)]


def _skipped(samples: Sequence[Sample], scores: Sequence[float], policy: str, steps: range) -> Span:
    """Share of runs that are left out in a stage, for scores of 0 and 1: a line whose slope is a median."""
    shares = [statistics.fmean(sample.outcomes[policy].reused[step] for step in steps) for sample in samples]
    slope = float(stats.theilslopes(shares, scores)[0]) if np.ptp(scores) > 0 else 0.0
    at_0 = statistics.fmean(share - slope * score for share, score in zip(shares, scores, strict=True))
    return _share(at_0), _share(at_0 + slope)


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)

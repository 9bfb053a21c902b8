"""Which features tell how large the error of quantizing is for some content, which way each goes, and what it weighs.

Features whose rank correlation with the error could be chance weigh nothing. Each of the others is placed between its
5th and its 95th percentile, the way round in which it rises with the error, and the error is fitted by their sum with
weights of at least 0 (non-negative least squares, Lawson and Hanson 1974, with a ridge). What results is monotone in
every feature. Errors count by their rank, as normal scores: a single clip that hardly differs from the one at 16
bits would otherwise decide the fit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tadp.calibration.samples import Sample
from tadp.complexity import text
from tadp.complexity.score import FeatureRange, FeatureRanges, ScoreWeights, judge, part_of
from tadp.extras import need

optimize, stats = (need(f"scipy.{part}", "calibrate", "fitting a score needs SciPy") for part in ("optimize", "stats"))

LOW, HIGH = 5, 95  # percentiles
RIDGES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Of which the one with the least error on contents left out is taken; in units of the number of samples."""
FEWEST = 8
CHANCE = 1.96
"""Standard errors, of 1 / sqrt(n - 1), up to which a rank correlation of n contents counts as chance."""
TEXT_PARTS = ("entity", "spatial", "temporal")


@dataclass(frozen=True)
class ScoreFit:
    """A fitted score.

    Attributes:
        ranges, weights: of the score, as policies take them.
        left_out: rank correlation of the score with the error of contents that it was not fitted to, each in turn.
        correlations: of every candidate with the error, also of those that weigh nothing.
        ridge: that was chosen.
    """

    ranges: FeatureRanges
    weights: ScoreWeights
    left_out: float
    correlations: Mapping[str, float]
    ridge: float

    def score(self, features: Mapping[str, float]) -> float:
        """Complexity of some content in [0, 1]; 0.5 where nothing that weighs is known."""
        found = judge(features, self.ranges, self.weights)
        return 0.5 if found is None else found.total


def candidates(sample: Sample) -> dict[str, float]:
    """All features of a sample: of its prompt and of its probe. Shadow errors are left out, few probes have them."""
    score = text.score(sample.prompt)
    wording = {f"text.{part}": float(getattr(score, part)) for part in TEXT_PARTS}
    return wording | {name: value for name, value in sample.features.items() if not name.startswith("shadow_error")}


def fit(features: Sequence[Mapping[str, float]], errors: Sequence[float]) -> ScoreFit:
    """Fit a score to the errors of some contents.

    Args:
        features: of every content; those that all have are candidates.
        errors: of every content; only their order counts.

    Raises:
        ValueError: for fewer than `FEWEST` contents, or errors that are all the same.
    """
    if len(errors) < FEWEST:
        raise ValueError(f"a score is fitted to {FEWEST} contents or more, got {len(errors)}")
    if np.ptp(errors) == 0:
        raise ValueError("the error of all contents is the same: there is nothing to predict")
    target = normal_scores(errors)
    names = [name for name in features[0] if all(name in found for found in features)]
    values = np.array([[found[name] for name in names] for found in features])
    outside = {ridge: _left_out(names, values, target, ridge) for ridge in RIDGES}
    ridge = min(outside, key=lambda candidate: float(np.square(outside[candidate] - target).mean()))
    ranges, weights = _fit(names, values, target, ridge)
    found = {name: _rank(values[:, index], target) for index, name in enumerate(names)}
    return ScoreFit(ranges, weights, _rank(outside[ridge], target), found, ridge)


def normal_scores(errors: Sequence[float]) -> np.ndarray:
    """Errors by rank, as if they were normally distributed; equal errors have equal scores."""
    return np.asarray(stats.norm.ppf((stats.rankdata(errors) - 0.5) / len(errors)))


def _fit(
    names: Sequence[str], values: np.ndarray, target: np.ndarray, ridge: float
) -> tuple[FeatureRanges, ScoreWeights]:
    """Ranges with signed weights, and the weights of the parts."""
    spans, placed = _placed(names, values, target)
    kept = list(spans)
    columns = placed - placed.mean(0)
    penalty = np.sqrt(ridge * len(target)) * np.eye(len(kept)) * float(columns.std(0).mean() or 1.0)
    found, _ = optimize.nnls(
        np.vstack([columns, penalty]), np.concatenate([target - target.mean(), np.zeros(len(kept))]), maxiter=10_000
    )
    if not found.any():  # nothing rises with the error: the best single one, so that there is a score at all
        found[int(np.argmax([abs(_rank(placed[:, index], target)) for index in range(len(kept))]))] = 1.0
    found = found / found.sum()
    ranges = {
        name: FeatureRange(spans[name].low, spans[name].high, weight=float(np.sign(spans[name].weight) * weight))
        for name, weight in zip(kept, found, strict=True)
        if weight > 0
    }
    parts = {"text": 0.0, "image": 0.0, "feature": 0.0}
    for name, span in ranges.items():
        parts[part_of(name)] += abs(span.weight)
    return ranges, ScoreWeights(**parts)


def _placed(names: Sequence[str], values: np.ndarray, target: np.ndarray) -> tuple[dict[str, FeatureRange], np.ndarray]:
    """The range of every feature that predicts, its weight 1 or -1, and what it makes of every content."""
    columns = {name: values[:, index] for index, name in enumerate(names)}
    ends = {name: np.percentile(column, (LOW, HIGH)) for name, column in columns.items()}
    found = {name: _rank(columns[name], target) for name, (low, high) in ends.items() if high > low}
    if not found:
        raise ValueError("no feature differs between these contents: there is nothing to predict by")
    least = min(CHANCE / np.sqrt(len(target) - 1), max(map(abs, found.values())))  # the best one stays in any case
    spans = {
        name: FeatureRange(float(ends[name][0]), float(ends[name][1]), weight=-1.0 if rank < 0 else 1.0)
        for name, rank in found.items()
        if abs(rank) >= least
    }
    return spans, np.array([[span.place(value) for value in columns[name]] for name, span in spans.items()]).T


def _left_out(names: Sequence[str], values: np.ndarray, target: np.ndarray, ridge: float) -> np.ndarray:
    """The error that a fit to all other contents predicts for each, in the unit of the errors."""
    found = np.empty(len(target))
    for index in range(len(target)):
        others = np.arange(len(target)) != index
        ranges, weights = _fit(names, values[others], target[others], ridge)
        scores = [_score(dict(zip(names, row, strict=True)), ranges, weights) for row in values]
        line = np.polynomial.Polynomial.fit(np.array(scores)[others], target[others], 1)
        found[index] = line(scores[index])
    return found


def _score(features: Mapping[str, float], ranges: FeatureRanges, weights: ScoreWeights) -> float:
    found = judge(features, ranges, weights)
    assert found is not None  # all features are there, and some weigh
    return found.total


def _rank(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Spearman's correlation; 0 where one of both does not vary."""
    return float(stats.spearmanr(ours, theirs).statistic) if np.ptp(ours) > 0 and np.ptp(theirs) > 0 else 0.0

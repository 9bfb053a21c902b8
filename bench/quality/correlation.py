"""Rank correlation, and confidence intervals by drawing samples anew (bootstrap); part of several benchmarks."""

from collections.abc import Iterator

import numpy as np
from scipy.stats import rankdata, spearmanr

DRAWS = 500


def draws(clusters: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of samples drawn with replacement, whole clusters at a time, `DRAWS` times; always the same ones.

    Args:
        clusters: ``(samples,)``; samples of one cluster, such as the seeds of one prompt, are not independent.
    """
    generator = np.random.default_rng(0)
    members = [np.flatnonzero(clusters == name) for name in np.unique(clusters)]
    for _ in range(DRAWS):
        yield np.concatenate([members[pick] for pick in generator.integers(len(members), size=len(members))])


def spearman(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Rank correlation; 0 where one of both does not vary."""
    return float(spearmanr(ours, theirs).statistic) if np.ptp(ours) > 0 and np.ptp(theirs) > 0 else 0.0


def interval(ours: np.ndarray, theirs: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """95 % of the rank correlations of samples drawn with replacement.

    Args:
        ours: ``(samples,)``.
        theirs: likewise.
        clusters: likewise, see `draws`.
    """
    found = []
    for drawn in draws(clusters):
        ranks = rankdata(np.stack([ours[drawn], theirs[drawn]]), axis=1)
        found.append(np.corrcoef(ranks)[0, 1] if (np.ptp(ranks, axis=1) > 0).all() else 0.0)
    low, high = np.percentile(found, (2.5, 97.5))
    return float(low), float(high)

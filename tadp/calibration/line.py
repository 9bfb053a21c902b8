"""How the error of a policy rises with the score of the content: a straight line through logarithms."""

import math
from collections.abc import Sequence

import numpy as np

from tadp.calibration.samples import Sample
from tadp.extras import need
from tadp.planning.calibration import Line

stats = need("scipy.stats", "calibrate", "fitting lines needs SciPy")

_NORMAL = 1.4826  # standard deviations in a median absolute deviation of normally distributed values

SMALLEST = 1e-10
"""Squared error that counts as the least: clips that are equal have no logarithm. 100 dB."""


def log_error(sample: Sample, policy: str) -> float:
    """Decimal logarithm of the squared error of a sample's clip."""
    return math.log10(max(sample.outcomes[policy].mse, SMALLEST))


def fit_line(scores: Sequence[float], errors: Sequence[float]) -> Line:
    """Fit a line whose slope is a median (Theil 1950, Sen 1968), flat where it would fall.

    A median, because a few clips hardly differ from those at 16 bits, and their logarithms lie far below all others.
    For the same reason the line passes through the mean of what lies within three standard deviations.

    Args:
        scores: of some contents.
        errors: decimal logarithms of their squared errors.

    Raises:
        ValueError: for fewer than two contents.
    """
    if len(scores) < 2:
        raise ValueError(f"a line needs two contents or more, got {len(scores)}")
    over, target = np.asarray(scores, dtype=float), np.asarray(errors, dtype=float)
    intercept, slope = _fit(over, target)
    misses = [
        target[index] - np.dot(_fit(np.delete(over, index), np.delete(target, index)), (1.0, over[index]))
        for index in range(len(target))
    ]
    return Line(intercept, slope, _NORMAL * float(np.median(np.abs(misses))))


def _fit(over: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    slope = max(float(stats.theilslopes(target, over)[0]), 0.0) if np.ptp(over) > 0 else 0.0
    rest = target - slope * over
    distance = np.abs(rest - np.median(rest))
    near = distance <= 3 * _NORMAL * np.median(distance) + 1e-12
    return float(rest[near].mean()), slope

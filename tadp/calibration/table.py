"""The lookup table: what every static plan costs content of a score."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tadp.calibration.samples import Sample

SMALLEST = 1e-10
"""Squared error that counts as the least: clips that are equal have no logarithm. 100 dB."""


@dataclass(frozen=True)
class Line:
    """The decimal logarithm of the squared error of clips over their scores, as a straight line that never falls.

    Attributes:
        intercept, slope: of the line; slope at least 0.
        spread: standard deviation around it, over contents that it was not fitted to.
    """

    intercept: float
    slope: float
    spread: float

    def psnr(self, score: float) -> float:
        """Expected PSNR in dB for content of a score."""
        return -10 * (self.intercept + self.slope * score)


@dataclass(frozen=True)
class Row:
    """What a policy costs.

    Attributes:
        policy: its name.
        damage: over scores.
        seconds: of a generation of the calibrated call.
        bytes: of weights in memory.
    """

    policy: str
    damage: Line
    seconds: float
    bytes: int


def log_damage(sample: Sample, policy: str) -> float:
    """Decimal logarithm of the squared error of a sample's clip."""
    return math.log10(max(sample.damage[policy].mse, SMALLEST))


def line(scores: Sequence[float], damage: Sequence[float]) -> Line:
    """Fit a line by least squares; flat where it would fall.

    Args:
        scores: of some contents.
        damage: decimal logarithms of their squared errors.

    Raises:
        ValueError: for fewer than two contents.
    """
    if len(scores) < 2:
        raise ValueError(f"a line needs two contents or more, got {len(scores)}")
    over, target = np.asarray(scores, dtype=float), np.asarray(damage, dtype=float)
    intercept, slope = _fit(over, target)
    misses = [
        target[index] - np.dot(_fit(np.delete(over, index), np.delete(target, index)), (1.0, over[index]))
        for index in range(len(target))
    ]
    return Line(intercept, slope, float(np.sqrt(np.square(misses).mean())))


def _fit(over: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    if np.ptp(over) > 0:
        slope = float(np.cov(over, target, bias=True)[0, 1] / over.var())
        if slope > 0:
            return float(target.mean() - slope * over.mean()), slope
    return float(target.mean()), 0.0

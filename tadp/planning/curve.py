"""The quality-speed curve: budgets of falling latency, solved for one content."""

from dataclasses import dataclass

import numpy as np

from tadp.policy.budget import Budget
from tadp.policy.calibrated import Calibrated
from tadp.precision import Recipe

POINTS = 12


@dataclass(frozen=True)
class Point:
    """One plan on the curve.

    Attributes:
        seconds: of a generation of the calibrated call.
        psnr: predicted, against 16 bits, in dB.
        lowered: share of blocks and stages after the probe that run below 16 bits.
    """

    seconds: float
    psnr: float
    lowered: float


def curve_of(calibration: Calibrated, score: float, keep_ends: bool = True, points: int = POINTS) -> tuple[Point, ...]:
    """Plans of least predicted damage from the slowest to the fastest; none is worse in both than another."""
    costs = calibration.costs
    widest = Budget(latency=1e9, keep_ends=keep_ends).calibrated(calibration).schedule(score)
    narrowest = Budget(quality=1e-3, keep_ends=keep_ends).calibrated(calibration).schedule(score)
    found: list[Point] = []
    for latency in np.linspace(costs.seconds(widest), costs.seconds(narrowest), points):
        budget = Budget(latency=float(latency) * (1 + 1e-9), keep_ends=keep_ends).calibrated(calibration)
        schedule = budget.schedule(score)
        recipes = [recipe for plan in schedule[1:] for _, recipe in plan]
        lowered = sum(recipe != Recipe() for recipe in recipes) / len(recipes)
        point = Point(costs.seconds(schedule), costs.psnr(schedule, score), lowered)
        if not found or point.seconds < found[-1].seconds:
            found.append(point)
    return tuple(found)

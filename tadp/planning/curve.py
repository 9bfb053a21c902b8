"""The quality-speed curve: budgets of falling latency, solved for one content."""

from dataclasses import dataclass, replace

import numpy as np

from tadp.planning.costs import Costs
from tadp.planning.planner import Planner
from tadp.precision import Recipe

POINTS = 12


@dataclass(frozen=True)
class Point:
    """One plan on the curve.

    Attributes:
        seconds: of a generation of the calibrated call.
        psnr: predicted, against 16 bits, in dB.
        lowered: share of blocks and stages after the probe that run below 16 bits, where they run.
    """

    seconds: float
    psnr: float
    lowered: float


def curve_of(costs: Costs, score: float, keep_ends: bool = True, points: int = POINTS) -> tuple[Point, ...]:
    """Plans of least predicted error from the slowest to the fastest; none is worse in both than another."""
    planner = Planner(costs, costs.recipes, keep_ends)
    widest = replace(planner, latency=1e9).schedule(score)
    narrowest = replace(planner, quality=1e-3).schedule(score)
    found: list[Point] = []
    for latency in np.linspace(costs.seconds(widest, score), costs.seconds(narrowest, score), points):
        schedule = replace(planner, latency=float(latency) * (1 + 1e-9)).schedule(score)
        recipes = [recipe.running for plan in schedule[1:] for _, recipe in plan]
        lowered = sum(recipe != Recipe() for recipe in recipes) / len(recipes)
        point = Point(costs.seconds(schedule, score), costs.psnr(schedule, score), lowered)
        if not found or point.seconds < found[-1].seconds:
            found.append(point)
    return tuple(found)

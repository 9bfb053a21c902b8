"""Costs of a made-up model of six blocks in four stages."""

from collections.abc import Mapping

from tadp.complexity.score import DEFAULT_RANGES, ScoreWeights
from tadp.planning.calibration import Calibration
from tadp.planning.costs import BlockCost, Costs
from tadp.planning.reuse_costs import ReuseCosts
from tadp.precision import L4, L6, L8, L16, Level, Recipe, Role

ATTENTION = ((Role.ATTENTION, L8),)
BLOCKS = tuple(f"blocks.{index}" for index in range(6))
STAGES = (0.95, 0.8, 0.5)
MENU: dict[Recipe, tuple[float, float, int]] = {  # error, seconds, bytes
    Recipe(): (0.0, 10.0, 300),
    Recipe(L16, ATTENTION): (1e-5, 8.0, 300),
    Recipe(L8): (1e-5, 7.0, 100),
    Recipe(L8, ATTENTION): (2e-5, 5.0, 100),
    Recipe(L6): (2e-4, 7.0, 80),
    Recipe(L4): (3e-3, 6.0, 60),
}


REUSE = ReuseCosts(
    shares=(0.0, 0.8, 0.1, 0.1),
    unit=0.005,
    intercept=-5.0,
    slope=0.5,
    factors={0.005: 1.0, 0.02: 3.0},
    factor_at_16=1.0,
    skipped={0.005: ((0.0, 0.0), *[(0.4, 0.1)] * 3), 0.02: ((0.0, 0.0), *[(0.5, 0.4)] * 3)},
    bytes=500,
)


def made_up_costs(
    blocks: tuple[str, ...] = BLOCKS,
    spread: float = 0.3,
    changed: Mapping[Recipe, tuple[float, float, int]] | None = None,
) -> Costs:
    """Later blocks are more sensitive, and earlier stages; `changed` replaces parts of `MENU`."""
    return Costs(
        blocks={
            block: {
                recipe: BlockCost(tuple(error * (1 + index) / (1 + stage) for stage in range(4)), seconds / 100, bytes_)
                for recipe, (error, seconds, bytes_) in (MENU | dict(changed or {})).items()
            }
            for index, block in enumerate(blocks)
        },
        base=Recipe(L8, ATTENTION),
        stages=STAGES,
        steps=(2, 6, 6, 6),
        shares=(0.1, 0.6, 0.2, 0.1),
        intercept=-5.0,
        slope=2.0,
        spread=spread,
        other_seconds=0.5,
        other_bytes=1000,
    )


def made_up(costs: Costs | None = None) -> Calibration:
    """A calibration of it."""
    return Calibration(
        key={},
        ranges=DEFAULT_RANGES,
        weights=ScoreWeights(),
        correlations={},
        left_out=0.5,
        costs=costs or made_up_costs(),
        table=(),
        sensitivity=(),
        samples=32,
        bias={},
    )


def at(level: Level, attention: bool = False) -> Recipe:
    """A recipe in short."""
    return Recipe(level, ATTENTION if attention else ())

"""Staged policy: one recipe for every block, another one as the noise falls, whatever the content."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tadp.policy.plans import uniform_plan
from tadp.policy.policy import Policy
from tadp.policy.seen import Seen
from tadp.precision import Plan, Recipe


@dataclass(frozen=True)
class Staged(Policy):
    """``recipe_of_stage[i]`` for every block in stage i, which ends where the noise falls below ``stages[i]``.

    Attributes:
        recipe_of_stage: one more than there are bounds.
        stages: the bounds, falling, as shares of the first step's timestep.

    Raises:
        ValueError: if the numbers of both do not fit, or bounds do not fall within (0, 1].
    """

    follows_steps: ClassVar[bool] = False
    recipe_of_stage: tuple[Recipe, ...]
    stages: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.recipe_of_stage) != len(self.stages) + 1:
            raise ValueError(
                f"{len(self.stages)} bounds make {len(self.stages) + 1} stages, not {len(self.recipe_of_stage)}"
            )
        check_stages(self.stages)

    def recipes(self) -> tuple[Recipe, ...]:
        return tuple(dict.fromkeys(self.recipe_of_stage))

    def plan(self, seen: Seen) -> Plan:
        return uniform_plan(seen.blocks, self.recipe_of_stage[seen.stage], keep_ends=False)

    def __str__(self) -> str:
        first, *others = map(str, self.recipe_of_stage)
        later = (f"{bound:.3g}:{recipe}" for bound, recipe in zip(self.stages, others, strict=True))
        return "staged:" + ",".join((first, *later))


def check_stages(stages: Sequence[float]) -> None:
    """Refuse bounds that are no falling shares.

    Raises:
        ValueError: if they do not fall strictly within (0, 1].
    """
    bounds = [1.0 + 1e-12, *stages, 0.0]
    if not all(later < earlier for earlier, later in itertools.pairwise(bounds)):
        raise ValueError(f"stages are noise levels that fall within (0, 1], got {tuple(stages)}")

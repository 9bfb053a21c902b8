"""Staged policy: one recipe for every block, another one as the noise falls, whatever the content."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from tadp.policy import grammar
from tadp.policy.plans import uniform_plan
from tadp.policy.policy import Policy, register
from tadp.policy.seen import Seen
from tadp.precision import Plan, Recipe


@register
@dataclass(frozen=True)
class Staged(Policy):
    """``recipe_of_stage[i]`` for every block in stage i, which ends where the noise falls below ``stages[i]``.

    Attributes:
        recipe_of_stage: one more than there are bounds.
        stages: the bounds, falling, as shares of the first step's timestep.

    Raises:
        ValueError: if the numbers of both do not fit, or bounds do not fall within (0, 1].
    """

    name: ClassVar[str] = "staged"
    usage: ClassVar[str] = '"staged:RECIPE,NOISE:RECIPE,..." such as "staged:8,0.5:16"'
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

    @classmethod
    def parse(cls, settings: str) -> "Staged":
        first, *later = settings.lower().split(",")
        pairs = [item.partition(":")[::2] for item in later]
        recipes = (Recipe.parse(recipe.strip()) for recipe in (first, *(recipe for _, recipe in pairs)))
        return cls(tuple(recipes), tuple(grammar.number(bound) for bound, _ in pairs))

    def written(self) -> str:
        first, *others = map(str, self.recipe_of_stage)
        later = (f"{grammar.digits(bound)}:{recipe}" for bound, recipe in zip(self.stages, others, strict=True))
        return ",".join((first, *later))


def check_stages(stages: Sequence[float]) -> None:
    """Refuse bounds that are no falling shares.

    Raises:
        ValueError: if they do not fall strictly within (0, 1].
    """
    bounds = [1.0 + 1e-12, *stages, 0.0]
    if not all(later < earlier for earlier, later in itertools.pairwise(bounds)):
        raise ValueError(f"stages are noise levels that fall within (0, 1], got {tuple(stages)}")

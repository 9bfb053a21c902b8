"""Static policy: one level for every block, whatever the content."""

from dataclasses import dataclass
from typing import ClassVar

from tadp.policy.plans import uniform_plan
from tadp.policy.policy import Policy
from tadp.policy.seen import Seen
from tadp.precision import L16, Level, Plan, Recipe, Role


@dataclass(frozen=True)
class Static(Policy):
    """Every block at `level`, attention products at `attention`.

    Attributes:
        level: of all linear layers.
        keep_ends: leaves first and last block at 16 bits.
        attention: of the attention products.
        probe_steps: how many first steps are measured, for those who look at the history; the plan stays what it is.
    """

    follows_steps: ClassVar[bool] = False
    level: Level
    keep_ends: bool = False
    attention: Level = L16
    probe_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("level", "attention"):
            object.__setattr__(self, name, Level.parse(str(getattr(self, name))))

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.level, () if self.attention == L16 else ((Role.ATTENTION, self.attention),))

    def recipes(self) -> tuple[Recipe, ...]:
        return (self.recipe, Recipe()) if self.keep_ends else (self.recipe,)

    def plan(self, seen: Seen) -> Plan:
        return uniform_plan(seen.blocks, self.recipe, self.keep_ends)

    def __str__(self) -> str:
        attention = "" if self.attention == L16 else "+attention"
        return f"static:{self.level}{attention}{' (ends at 16)' if self.keep_ends else ''}"

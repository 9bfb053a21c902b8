"""Fixed policy: a plan that was chosen elsewhere, whatever the content."""

from dataclasses import dataclass
from typing import ClassVar

from tadp.policy.policy import Policy
from tadp.policy.seen import Seen
from tadp.precision import Plan, Recipe


@dataclass(frozen=True)
class Fixed(Policy):
    """The recipes of a given plan; blocks that it does not name stay at 16 bits."""

    follows_steps: ClassVar[bool] = False
    chosen: Plan
    probe_steps: int = 0

    def recipes(self) -> tuple[Recipe, ...]:
        return tuple(dict.fromkeys((*(recipe for _, recipe in self.chosen), Recipe())))

    def plan(self, seen: Seen) -> Plan:
        known = dict(self.chosen.recipes)
        return Plan.of((block, known.get(block, Recipe())) for block in seen.blocks)

    def __str__(self) -> str:
        return "fixed:" + ",".join(f"{block}={recipe}" for block, recipe in self.chosen)

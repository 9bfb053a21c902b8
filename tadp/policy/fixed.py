"""Fixed policy: a plan that was chosen elsewhere, whatever the content."""

from dataclasses import dataclass
from typing import ClassVar

from tadp.policy import grammar
from tadp.policy.policy import Policy, register
from tadp.policy.seen import Seen
from tadp.precision import Plan, Recipe

_SETTINGS = {"probe": grammar.PROBE}


@register
@dataclass(frozen=True)
class Fixed(Policy):
    """The recipes of a given plan; blocks that it does not name stay at 16 bits."""

    name: ClassVar[str] = "fixed"
    usage: ClassVar[str] = '"fixed:BLOCK=RECIPE,..." such as "fixed:blocks.0=8,blocks.1=8+attention:8"'
    follows_steps: ClassVar[bool] = False

    chosen: Plan
    probe_steps: int = 0

    def recipes(self) -> tuple[Recipe, ...]:
        return tuple(dict.fromkeys((*(recipe for _, recipe in self.chosen), Recipe())))

    def plan(self, seen: Seen) -> Plan:
        known = dict(self.chosen.recipes)
        return Plan.of((block, known.get(block, Recipe())) for block in seen.blocks)

    @classmethod
    def parse(cls, settings: str) -> "Fixed":
        recipes: dict[str, Recipe] = {}
        others = []
        for item in grammar.items(settings):
            block, _, recipe = (part.strip() for part in item.partition("="))
            if block in _SETTINGS:
                others.append(item)
            elif block in recipes:
                raise ValueError(f"block {block!r} stands twice")
            else:
                recipes[block] = Recipe.parse(recipe.lower())
        return cls(Plan.of(recipes), **grammar.read(others, _SETTINGS))

    def written(self) -> str:
        blocks = (f"{block}={recipe}" for block, recipe in self.chosen)
        return ",".join([*blocks, *grammar.write(self, _SETTINGS)])

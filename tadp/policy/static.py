"""Static policy: one level for every block, whatever the content."""

from dataclasses import dataclass
from typing import ClassVar

from tadp.policy import grammar
from tadp.policy.plans import uniform_plan
from tadp.policy.policy import Policy, register
from tadp.policy.seen import Seen
from tadp.precision import L0, L8, L16, Level, Plan, Recipe, Reuse, Role

_SETTINGS = {"ends": grammar.ENDS, "probe": grammar.PROBE}


@register
@dataclass(frozen=True)
class Static(Policy):
    """Every block at `level`, attention products at `attention`.

    Attributes:
        level: of all linear layers.
        keep_ends: leaves first and last block at 16 bits.
        attention: of the attention products.
        reuse: when blocks need not run; None: they always do.
        probe_steps: how many first steps are measured, for those who look at the history; the plan stays what it is.
    """

    name: ClassVar[str] = "static"
    usage: ClassVar[str] = (
        '"static:LEVEL" with LEVEL one of 16, 8, 6, 4, 7m, 6m, 5m, w8a16, w6a16, w4a16, optionally followed by '
        '"+attention", "+sparse50" (25, 10) or "+mass95" (99, 90), "+reuse:BOUND", ",ends=16" and ",probe=STEPS"'
    )
    follows_steps: ClassVar[bool] = False

    level: Level
    keep_ends: bool = False
    attention: Level = L16
    probe_steps: int = 0
    reuse: Reuse | None = None

    def __post_init__(self) -> None:
        for name in ("level", "attention"):
            object.__setattr__(self, name, Level.parse(str(getattr(self, name))))
        if L0 in (self.level, self.attention):
            raise ValueError("nothing can run at level 0: name the level that it runs at, such as 8+reuse:0.01")
        _ = self.recipe  # raises for a level that linear layers cannot have

    @property
    def recipe(self) -> Recipe:
        return Recipe(self.level, () if self.attention == L16 else ((Role.ATTENTION, self.attention),), self.reuse)

    def recipes(self) -> tuple[Recipe, ...]:
        return (self.recipe, Recipe(reuse=self.reuse)) if self.keep_ends else (self.recipe,)

    def plan(self, seen: Seen) -> Plan:
        return uniform_plan(seen.blocks, self.recipe, self.keep_ends)

    @classmethod
    def parse(cls, settings: str) -> "Static":
        first, *others = settings.lower().split(",")
        recipe = Recipe.parse(first.strip())
        if own := [role for role, _ in recipe.overrides if role is not Role.ATTENTION]:
            raise ValueError(f"{str(own[0])!r} cannot have a level of its own")
        found = grammar.read(others, _SETTINGS)
        return cls(recipe.default, attention=recipe[Role.ATTENTION], reuse=recipe.reuse, **found)

    def written(self) -> str:
        own = "attention" if self.attention == L8 else f"attention:{self.attention}"
        name = str(self.attention) if self.attention.is_sparse else own
        attention = "" if self.attention == L16 else f"+{name}"
        reuse = "" if self.reuse is None else f"+{self.reuse}"
        return ",".join([f"{self.level}{attention}{reuse}", *grammar.write(self, _SETTINGS)])

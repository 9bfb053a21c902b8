"""Order: what one forward of a model is told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from tadp.precision import L0, L16, Plan, Recipe

_REUSED = Recipe(L0)


@dataclass(frozen=True)
class Order:
    """What one forward is told. The controller writes it, every dispatcher follows it; nobody keeps parts of it.

    Attributes:
        plan: the recipe of every block.
        probing: whether blocks also measure.
        shadows: blocks that run once more while they are measured, each with the recipe of that second run.
        reused: blocks that do not run, and add what they added in earlier steps.
        foretold: whether the model is not run at all, and its prediction foretold from that of the other branch.
    """

    plan: Plan
    probing: bool = False
    shadows: Mapping[str, Recipe] = field(default_factory=dict, hash=False)
    reused: frozenset[str] = frozenset()
    foretold: bool = False

    @cached_property
    def executed(self) -> Plan:
        """What blocks come to: their recipes without leave to reuse, or level 0 where they are reused."""
        done = [
            (block, _REUSED if self.foretold or block in self.reused else recipe.running) for block, recipe in self.plan
        ]
        return Plan(tuple(done), self.plan.reasons)

    @cached_property
    def keeps_masters(self) -> frozenset[str]:
        """Blocks whose 16-bit masters stay mapped: those with a linear layer at 16 bits."""
        return frozenset(block for block, recipe in self.plan if recipe.has(L16))

    @cached_property
    def _recipes(self) -> Mapping[str, Recipe]:
        return {block: recipe.running for block, recipe in self.plan}

    def variant_of(self, block: str | None) -> tuple[Recipe, bool]:
        """The recipe of a block, and whether the block measures.

        Code outside of all blocks, None, and blocks that the plan does not name run at 16 bits and measure nothing.
        """
        recipe = self._recipes.get(block) if block else None
        return (Recipe(), False) if recipe is None else (recipe, self.probing)

    def same_variants(self, other: "Order") -> bool:
        """Whether both orders run the same variants; shadow runs come on top."""
        return self.plan == other.plan and self.probing == other.probing

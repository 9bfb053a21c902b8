"""How recipes are laid over the blocks of a model."""

from tadp.planning.blocks import ends
from tadp.precision import Plan, Recipe

END = "first or last block"
"""Why a block stays at 16 bits."""


def uniform_plan(blocks: tuple[str, ...], recipe: Recipe, keep_ends: bool) -> Plan:
    """The same recipe for all blocks; with `keep_ends` the first and the last of every list stay at 16 bits.

    Of every list, because the order in which a model runs its lists is not known: the model's first and last block are
    among them.
    """
    kept = ends(blocks) if keep_ends else frozenset()
    end = Recipe(reuse=recipe.reuse)
    return Plan.of((block, end if block in kept else recipe) for block in blocks)


def scored(blocks: tuple[str, ...]) -> frozenset[str]:
    """The blocks whose signals make up a score: all but the first and the last of every list, which are unlike others.

    Where there are no others, all.
    """
    return frozenset(blocks) - ends(blocks) or frozenset(blocks)

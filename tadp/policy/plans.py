"""How recipes are laid over the blocks of a model."""

from tadp.planning.blocks import ends
from tadp.precision import L8, Plan, Recipe

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


def probe_plan(blocks: tuple[str, ...]) -> Plan:
    """8 bits, first and last block at 16: what policies run while they measure."""
    plan = uniform_plan(blocks, Recipe(L8), keep_ends=True)
    return plan.because((block, END if recipe == Recipe() else "measured by the probe") for block, recipe in plan)


def scored(blocks: tuple[str, ...]) -> frozenset[str]:
    """The blocks whose signals make up a score: those that every probe measures, so that all scores compare.

    All but the first and the last of every list; where there are no others, all.
    """
    return frozenset(blocks) - ends(blocks) or frozenset(blocks)

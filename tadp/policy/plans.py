"""How recipes are laid over the blocks of a model."""

from tadp.precision import Plan, Recipe


def uniform_plan(blocks: tuple[str, ...], recipe: Recipe, keep_ends: bool) -> Plan:
    """The same recipe for all blocks; with `keep_ends` the first and the last one stay at 16 bits (SPEC A5)."""
    ends = {blocks[0], blocks[-1]} if keep_ends and blocks else set()
    return Plan.of((block, Recipe() if block in ends else recipe) for block in blocks)

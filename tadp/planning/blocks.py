"""The lists that a model's blocks stand in."""

from collections.abc import Iterable


def by_list(blocks: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Blocks such as "blocks.3" by the list that holds them, here "blocks", each list in its own order."""
    lists: dict[str, list[str]] = {}
    for block in blocks:
        lists.setdefault(block.rpartition(".")[0], []).append(block)
    return {name: tuple(own) for name, own in lists.items()}


def ends(blocks: Iterable[str]) -> frozenset[str]:
    """The first and the last block of every list."""
    return frozenset(block for own in by_list(blocks).values() for block in (own[0], own[-1]))

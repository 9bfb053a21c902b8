"""Sizes that Dynamo captures a block for alone although they change: each of their values costs a compilation."""

import re

import torch
from torch import fx
from torch._guards import CompileContext

from tadp.passes.operations import EXAMPLE

_ALWAYS = (0, 1)
"""Sizes that Dynamo always captures for themselves."""

MANY = 16
"""Captures for all sizes from which on something is amiss: sizes of 1 and layouts take a few of the same code."""


class FixedSizes:
    """Compares the captures of the same code: a size that is fixed in both, and differs, was asked for by the code."""

    def __init__(self) -> None:
        self._seen: dict[tuple[object, ...], dict[tuple[str, int], int]] = {}
        self._captures: dict[tuple[object, ...], int] = {}

    def obstacle(self, block: str, graph: fx.GraphModule) -> str | None:
        """What makes a graph, as it comes from Dynamo, hold for fewer sizes than are meant.

        That is a size which is fixed, and was fixed at another number before, or any number that is no tensor's size.

        Returns:
            The end of a sentence that begins with the block; None where nothing is amiss, and where sizes are meant to
            be fixed.
        """
        context = CompileContext.try_get()
        frame = None if context is None or context.compile_id is None else context.compile_id.frame_id
        sizes = _sizes(graph)
        before = self._seen.setdefault((block, frame), {})
        if torch._dynamo.config.assume_static_by_default:
            before.update(sizes)
            return None
        found = None
        for place, size in sizes.items():
            other = before.get(place, size)
            if size != other and size not in _ALWAYS and other not in _ALWAYS and found is None:
                name, dimension = place
                found = (
                    f"is compiled anew for each value of dimension {dimension} of {name}: its code asks for the number"
                )
        before.update(sizes)
        self._captures[block, frame] = self._captures.get((block, frame), 0) + 1
        if found is None and self._captures[block, frame] == MANY:
            return (
                f"was compiled {MANY} times though its sizes are open: its code asks for some number that it is given"
            )
        return found


def _sizes(graph: fx.GraphModule) -> dict[tuple[str, int], int]:
    """The fixed sizes of a graph's inputs but its weights, by the name that the code has for the input."""
    found: dict[tuple[str, int], int] = {}
    for node in graph.graph.find_nodes(op="placeholder"):
        source = getattr(getattr(node.meta.get("grapharg"), "source", None), "name", None)
        example = node.meta.get(EXAMPLE)
        if not isinstance(source, str) or not isinstance(example, torch.Tensor) or "_modules" in source:
            continue
        name = re.sub(r"^L\['(\w+)'\]", r"\1", source)
        found |= {(name, place): size for place, size in enumerate(example.shape) if _is_fixed(size)}
    return {place: int(size) for place, size in found.items()}


def _is_fixed(size: int | torch.SymInt) -> bool:
    """Whether a size is a number, maybe in the guise of a symbol."""
    return isinstance(size, int) or size.node.expr.is_number

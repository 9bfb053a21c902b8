"""Where the inputs of a variant come from: values as they are, 16-bit masters, and planes of packed weights."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tadp.kernels.formats import FORMATS, PLANE_BITS
from tadp.kernels.planes import plane_shape
from tadp.kernels.values import Planes
from tadp.passes.operations import EXAMPLE
from tadp.precision import Level, Part

SCALE, FACTORS = Part("scale"), Part("factors")


def parts_of(level: Level, balanced: bool) -> tuple[Part, ...]:
    """What a linear at a level below 16 bits reads of its weight."""
    planes = map(Part, FORMATS[level.widest].planes)
    factors = (FACTORS,) if balanced else ()
    widths = (_widths(level),) if level.mixed else ()
    return (*planes, SCALE, *factors, *widths)


def _widths(level: Level) -> Part:
    return Part("widths", level.weight)


@dataclass(frozen=True)
class Source:
    """Where an input of a variant comes from: the piece's input at `index`, and which part of it."""

    index: int
    part: Part


class PlaneInputs:
    """The plane inputs of a graph that is being written, made when first asked for."""

    def __init__(self, graph: fx.Graph, sources: list[Source], index: dict[fx.Node, int]) -> None:
        self._graph, self._sources, self._index = graph, sources, index
        self._made: dict[tuple[fx.Node, Part], fx.Node] = {}

    def add(self, weight: fx.Node, level: Level) -> None:
        for part in parts_of(level, is_balanced(weight)):
            if (weight, part) not in self._made:
                node = self._graph.placeholder(f"{weight.name}_{part}")
                node.meta = {EXAMPLE: _example_part(weight.meta[EXAMPLE], part)}
                self._made[weight, part] = node
                self._sources.append(Source(self._index[weight], part))

    def of(self, weight: fx.Node, level: Level) -> Planes:
        """What a product at a level reads, as nodes; output channels that have widths of their own bring them along."""
        parts = (*map(Part, PLANE_BITS), SCALE, *((_widths(level),) if level.mixed else ()))
        nodes: list[Any] = [self._made.get((weight, part)) for part in parts]
        return Planes(*nodes).at(level.widest)

    def factors(self, weight: fx.Node) -> fx.Node | None:
        """What activations are multiplied by; None where channels are not balanced."""
        return self._made.get((weight, FACTORS))


def is_balanced(weight: fx.Node) -> bool:
    """Whether a weight's input channels are balanced, so that activations are multiplied by factors first."""
    return getattr(weight.meta[EXAMPLE], "factors", None) is not None


def rotation_of(weight: fx.Node) -> int:
    """Columns of each run that a weight's input is rotated in before it is rounded; 0 for none."""
    return getattr(weight.meta[EXAMPLE], "rotation", 0)


def _example_part(weight: torch.Tensor, part: Part) -> torch.Tensor:
    rows, columns = weight.shape
    if part.average is not None:
        return torch.empty(rows, dtype=torch.uint8, device="meta")
    if part == FACTORS:
        return torch.empty(columns, dtype=torch.float32, device="meta")
    if part != SCALE:
        return torch.empty(plane_shape(part.kind, rows, columns), dtype=torch.uint8, device="meta")
    groups = getattr(weight, "groups", 0)
    scale = torch.empty((groups, rows) if groups else (rows,), dtype=torch.float32, device="meta")
    return scale.t() if groups else scale  # laid out group by group, see planes.encode

"""Where the inputs of a variant come from: values as they are, 16-bit masters, and planes of packed weights."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import fx

from tadp.kernels.planes import padded_columns
from tadp.kernels.values import Planes
from tadp.passes.partition import EXAMPLE
from tadp.precision import Level


class Part(str, Enum):
    """What a variant wants of a value: the value itself, a weight's 16-bit master, or one tensor of its bit planes."""

    ITSELF = "itself"
    MASTER = "master"
    HIGH = "high"
    MID = "mid"
    LOW = "low"
    SCALE = "scale"
    FACTORS = "factors"
    WIDTHS_7 = "widths:7"
    WIDTHS_6 = "widths:6"
    WIDTHS_5 = "widths:5"


PLANES: dict[int, tuple[Part, ...]] = {
    8: (Part.HIGH, Part.MID, Part.LOW),
    6: (Part.HIGH, Part.MID),
    4: (Part.HIGH,),
}
"""The planes that each width reads: a narrower width reads a prefix of what a wider one does."""


def parts_of(level: Level, balanced: bool) -> tuple[Part, ...]:
    """What a linear at a level below 16 bits reads of its weight."""
    factors = (Part.FACTORS,) if balanced else ()
    widths = (Part(f"widths:{level.weight}"),) if level.mixed else ()
    return (*PLANES[level.widest], Part.SCALE, *factors, *widths)


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
                node = self._graph.placeholder(f"{weight.name}_{part.name.lower()}")
                node.meta = {EXAMPLE: _example_part(weight.meta[EXAMPLE], part)}
                self._made[weight, part] = node
                self._sources.append(Source(self._index[weight], part))

    def of(self, weight: fx.Node, level: Level) -> Planes:
        """What a product at a level reads, as nodes; output channels that have widths of their own bring them along."""
        wanted = PLANES[level.widest]
        read: list[Any] = [self._made[weight, part] if part in wanted else None for part in PLANES[8]]
        read += [self._made[weight, Part.SCALE]]
        read += [self._made[weight, Part(f"widths:{level.weight}")]] if level.mixed else []
        return Planes(*read)

    def factors(self, weight: fx.Node) -> fx.Node | None:
        """What activations are multiplied by; None where channels are not balanced."""
        return self._made.get((weight, Part.FACTORS))


def is_balanced(weight: fx.Node) -> bool:
    """Whether a weight's input channels are balanced, so that activations are multiplied by factors first."""
    return getattr(weight.meta[EXAMPLE], "factors", None) is not None


def plane_shape(rows: int, columns: int, part: Part) -> tuple[int, ...]:
    """Shape of one plane of a ``(rows, columns)`` weight, as kernels/bitplanes.py packs them."""
    padded = padded_columns(columns)
    return (rows, padded // 2 if part is Part.HIGH else padded // 4)


def _example_part(weight: torch.Tensor, part: Part) -> torch.Tensor:
    rows, columns = weight.shape
    if part.value.startswith("widths:"):
        return torch.empty(rows, dtype=torch.uint8, device="meta")
    if part is Part.FACTORS:
        return torch.empty(columns, dtype=torch.float32, device="meta")
    if part is not Part.SCALE:
        return torch.empty(plane_shape(rows, columns, part), dtype=torch.uint8, device="meta")
    groups = getattr(weight, "groups", 0)
    scale = torch.empty((groups, rows) if groups else (rows,), dtype=torch.float32, device="meta")
    return scale.t() if groups else scale  # laid out group by group, see planes.encode

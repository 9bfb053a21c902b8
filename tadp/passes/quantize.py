"""Third pass: give every linear of a piece the level that a recipe names for its role.

The level is written into the graph as operators and as inputs: a variant takes the planes that its width reads, or the
16-bit master, and never asks at run time. Linears that share their input share one quantized copy of it.
"""

import math
import operator
from dataclasses import dataclass
from enum import Enum

import torch
from torch import fx

from tadp.passes.annotate import LINEAR, annotation
from tadp.passes.partition import EXAMPLE
from tadp.precision import L16, Level, Recipe, Role


class Part(str, Enum):
    """What a variant wants of a value: the value itself, a weight's 16-bit master, or one tensor of its bit planes."""

    ITSELF = "itself"
    MASTER = "master"
    HIGH = "high"
    MID = "mid"
    LOW = "low"
    SCALE = "scale"


PLANES: dict[int, tuple[Part, ...]] = {
    8: (Part.HIGH, Part.MID, Part.LOW),
    6: (Part.HIGH, Part.MID),
    4: (Part.HIGH,),
}
"""The planes that each width reads: a narrower width reads a prefix of what a wider one does."""


@dataclass(frozen=True)
class Source:
    """Where an input of a variant comes from: the piece's input at `index`, and which part of it."""

    index: int
    part: Part


@dataclass(frozen=True)
class Decision:
    """The level that one operation of a piece got, and why, where it is not what the recipe asked for.

    `shape` is the weight's, ``(rows, columns)``; None for attention.
    """

    layer: str
    role: Role | None
    level: Level
    shape: tuple[int, ...] | None = None
    reason: str = ""

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weight that are read at this level, but for its scales; 16-bit types are assumed at 16."""
        return 0 if self.shape is None else math.prod(self.shape) * self.level.weight // 8


@dataclass(frozen=True)
class Quantized:
    """A piece's graph for one recipe. Its inputs are `sources`: first values as they are, then weights."""

    graph: fx.GraphModule
    sources: tuple[Source, ...]
    decisions: tuple[Decision, ...]


def quantize(piece: fx.GraphModule, recipe: Recipe) -> Quantized:
    """Rewrite a piece's graph for a recipe; the given graph is left as it is."""
    graph = fx.Graph()
    placeholders = list(piece.graph.find_nodes(op="placeholder"))
    decisions = tuple(_decide(node, recipe) for node in piece.graph.nodes if _is_quantizable(node))
    levels = dict(zip((n for n in piece.graph.nodes if _is_quantizable(n)), (d.level for d in decisions), strict=True))
    quantized_weights = {node.args[1] for node, level in levels.items() if level != L16}
    sources: list[Source] = []
    copies: dict[fx.Node, fx.Node] = {}
    for index, node in enumerate(placeholders):
        only_weight = all(user in levels and user.args[1] is node for user in node.users)
        if node in quantized_weights and only_weight:
            continue
        copies[node] = graph.node_copy(node)
        packed = any(user in levels and user.args[1] is node for user in node.users)
        sources.append(Source(index, Part.MASTER if packed else Part.ITSELF))
    planes = _Planes(graph, sources, {node: index for index, node in enumerate(placeholders)})
    for node in piece.graph.nodes:
        if node in quantized_weights:
            for width in sorted({levels[user].weight for user in node.users if levels.get(user, L16) != L16}):
                planes.add(node, width)
    codes: dict[fx.Node, tuple[fx.Node, ...]] = {}
    for node in piece.graph.nodes:
        if node.op == "placeholder":
            continue
        level = levels.get(node, L16)
        if level == L16:
            copies[node] = graph.node_copy(node, lambda source: copies[source])
        else:
            copies[node] = _quantized_linear(graph, node, level, copies, codes, planes)
            copies[node].meta = dict(node.meta)
    order = [index for index, source in enumerate(sources) if source.part is Part.ITSELF]
    order += [index for index, source in enumerate(sources) if source.part is not Part.ITSELF]
    _reorder_placeholders(graph, order)
    return Quantized(fx.GraphModule(piece, graph), tuple(sources[index] for index in order), decisions)


def _is_quantizable(node: fx.Node) -> bool:
    found = annotation(node)
    return (found.role is not None and found.layer is not None) or (
        node.op == "call_function" and node.target in LINEAR
    )


def _decide(node: fx.Node, recipe: Recipe) -> Decision:
    found = annotation(node)
    layer = found.layer or node.name
    if found.role is Role.ATTENTION:
        wanted = recipe[Role.ATTENTION] if found.block else L16
        return Decision(layer, found.role, L16, reason="" if wanted == L16 else "attention has no kernel below 16 bits")
    weight = node.args[1]
    if not isinstance(weight, fx.Node) or weight.op != "placeholder":
        return Decision(layer, found.role, L16, reason="its weight is computed inside the graph")
    rows, columns = weight.meta[EXAMPLE].shape
    if found.block is None:
        return Decision(layer, found.role, L16, (rows, columns), "outside the blocks")
    if found.role is None:
        return Decision(layer, None, L16, (rows, columns), "neither its name nor its shape tells its role")
    return Decision(layer, found.role, recipe[found.role], (rows, columns))


class _Planes:
    """The plane inputs of a graph that is being written, made when first asked for."""

    def __init__(self, graph: fx.Graph, sources: list[Source], index: dict[fx.Node, int]) -> None:
        self._graph, self._sources, self._index = graph, sources, index
        self._made: dict[tuple[fx.Node, Part], fx.Node] = {}

    def add(self, weight: fx.Node, width: int) -> None:
        for part in (*PLANES[width], Part.SCALE):
            if (weight, part) not in self._made:
                node = self._graph.placeholder(f"{weight.name}_{part.value}")
                node.meta = {EXAMPLE: _example_plane(weight.meta[EXAMPLE], part)}
                self._made[weight, part] = node
                self._sources.append(Source(self._index[weight], part))

    def of(self, weight: fx.Node, width: int) -> tuple[fx.Node | None, ...]:
        """high, mid or None, low or None, scale."""
        wanted = PLANES[width]
        planes = [self._made[weight, part] if part in wanted else None for part in PLANES[8]]
        return (*planes, self._made[weight, Part.SCALE])


def plane_shape(rows: int, columns: int, part: Part) -> tuple[int, ...]:
    """Shape of one tensor of the bit planes of a ``(rows, columns)`` weight, as kernels/bitplanes.py packs them."""
    padded = -(-columns // 4) * 4
    return {Part.HIGH: (rows, padded // 2), Part.SCALE: (rows,)}.get(part, (rows, padded // 4))


def _example_plane(weight: torch.Tensor, part: Part) -> torch.Tensor:
    rows, columns = weight.shape
    shape = plane_shape(rows, columns, part)
    return torch.empty(shape, dtype=torch.float32 if part is Part.SCALE else torch.uint8, device="meta")


def _quantized_linear(
    graph: fx.Graph,
    node: fx.Node,
    level: Level,
    copies: dict[fx.Node, fx.Node],
    codes: dict[fx.Node, tuple[fx.Node, ...]],
    planes: _Planes,
) -> fx.Node:
    activation, weight = node.args[:2]
    bias = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
    assert isinstance(activation, fx.Node)
    assert isinstance(weight, fx.Node)
    example = weight.meta[EXAMPLE]
    read = planes.of(weight, level.weight)
    new_bias = copies[bias] if isinstance(bias, fx.Node) else None
    if level.activation == 16:
        args = (*read, example.shape[1], example.dtype)
        restored = graph.call_function(torch.ops.tadp.dequantize.default, args)
        return graph.call_function(torch.nn.functional.linear, (copies[activation], restored, new_bias))
    if activation not in codes:
        both = graph.call_function(torch.ops.tadp.quantize.default, (copies[activation],))
        both.meta = dict(node.meta)  # a probe names what it measures here after the first layer that reads it
        codes[activation] = tuple(graph.call_function(operator.getitem, (both, position)) for position in range(3))
    args = (*codes[activation], *read, new_bias, example.dtype)
    return graph.call_function(torch.ops.tadp.linear.default, args)


def _reorder_placeholders(graph: fx.Graph, order: list[int]) -> None:
    """Bring placeholders to the front of a graph, in the given order of their present positions."""
    nodes = list(graph.find_nodes(op="placeholder"))
    anchor = next(iter(graph.nodes))
    for index in order:
        if nodes[index] is anchor:
            continue
        anchor.prepend(nodes[index])
    # The anchor itself may be a placeholder that belongs elsewhere: moving all others before it left it last.
    if anchor.op == "placeholder":
        position = order.index(nodes.index(anchor))
        if position + 1 < len(order):
            nodes[order[position + 1]].prepend(anchor)

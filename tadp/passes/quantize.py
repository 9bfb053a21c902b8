"""Fourth pass: give every linear and attention product of a piece the level that a recipe names for its role.

The level is written into the graph as operators and as inputs: a variant takes the planes that its width reads, or the
16-bit master, and never asks at run time. Linears that share their input share one quantized copy of it, and a GELU or
SiLU that alone reads a linear's result becomes a part of it.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tadp.kernels import reference
from tadp.kernels.operators import flatten
from tadp.kernels.registry import Fastest, Kernel
from tadp.kernels.rotation import rotate_by_product
from tadp.kernels.values import Codes, Epilogue
from tadp.passes import attention
from tadp.passes.decision import Decision, bias_of, decide, has_level, nonlinearity_after
from tadp.passes.operations import EXAMPLE, is_linear
from tadp.passes.sources import PlaneInputs, Source, is_balanced, rotation_of
from tadp.precision import ITSELF, MASTER, Level, Recipe


def rotate_and_quantize(x: torch.Tensor, groups: int = 0, rotation: int = 0) -> Codes:
    """As reference.quantize, with a rotation that is a matrix product."""
    return reference.quantize(rotate_by_product(x, rotation) if rotation else x, groups)


QUANTIZERS: tuple[Callable[..., object], ...] = (torch.ops.tadp.quantize.default, rotate_and_quantize)
"""The operator, and the function whose plain operations a compiler sees."""


@dataclass(frozen=True)
class Quantized:
    """A piece's graph for one recipe. Its inputs are `sources`: first values as they are, then weights."""

    graph: fx.GraphModule
    sources: tuple[Source, ...]
    decisions: tuple[Decision, ...]


def quantize(
    piece: fx.GraphModule, recipe: Recipe, fastest: Fastest = lambda request, device, offered: None
) -> Quantized:
    """Rewrite a piece's graph for a recipe; the given graph is left as it is.

    Args:
        piece: an annotated graph.
        recipe: levels by role.
        fastest: names the kernel that was measured to be fastest on a request, where one was.
    """
    graph = fx.Graph()
    placeholders = list(piece.graph.find_nodes(op="placeholder"))
    chosen = {node: decide(node, recipe, fastest) for node in piece.graph.nodes if has_level(node)}
    kernels = {node: kernel for node, (_, kernel) in chosen.items() if kernel is not None}
    readers = {node: node.args[1] for node in chosen if is_linear(node)}
    quantized_weights = {weight for node, weight in readers.items() if node in kernels}
    sources: list[Source] = []
    copies: dict[fx.Node, fx.Node] = {}
    for index, node in enumerate(placeholders):
        only_weight = all(readers.get(user) is node for user in node.users)
        if node in quantized_weights and only_weight:
            continue
        copies[node] = graph.node_copy(node)
        packed = any(readers.get(user) is node for user in node.users)
        sources.append(Source(index, MASTER if packed else ITSELF))
    planes = PlaneInputs(graph, sources, {node: index for index, node in enumerate(placeholders)})
    for node in piece.graph.nodes:
        if node in quantized_weights:
            for level in sorted({chosen[user][0].level for user in node.users if user in kernels and user in readers}):
                planes.add(node, level)
    writer = _Writer(graph, copies, planes)
    for node in piece.graph.nodes:
        if node.op == "placeholder" or node in copies:
            continue
        if node not in kernels:
            copies[node] = graph.node_copy(node, lambda source: copies[source])
            continue
        level, kernel = chosen[node][0].level, kernels[node]
        if node in readers:
            follower, nonlinearity = nonlinearity_after(node)
            copies[node] = copies[follower] = writer.linear(node, level, kernel, nonlinearity)
        else:
            copies[node] = attention.write(graph, node, copies, level, kernel)
        copies[node].meta = dict(node.meta)
    order = [index for index, source in enumerate(sources) if source.part == ITSELF]
    order += [index for index, source in enumerate(sources) if source.part != ITSELF]
    _reorder_placeholders(graph, order)
    decisions = tuple(decision for decision, _ in chosen.values())
    return Quantized(fx.GraphModule(piece, graph), tuple(sources[index] for index in order), decisions)


def quantizer(device: torch.device) -> Callable[..., object]:
    """What quantizes activations in a graph for a device.

    On GPUs the plain operations that define it, which Inductor fuses into the norm and modulation before them: a kernel
    of its own would read its input from memory once more. On CPUs it is a kernel of ours.
    """
    return QUANTIZERS[0] if device.type == "cpu" else QUANTIZERS[1]


class _Writer:
    """Writes quantized linears into a graph; those that read one value share its codes."""

    def __init__(self, graph: fx.Graph, copies: dict[fx.Node, fx.Node], planes: PlaneInputs) -> None:
        self._graph, self._copies, self._planes = graph, copies, planes
        self._codes: dict[tuple[fx.Node, int, bool, int], Codes] = {}
        self._products: dict[fx.Node, fx.Node] = {}
        self._rotated: dict[tuple[fx.Node, bool, int], fx.Node] = {}

    def linear(self, node: fx.Node, level: Level, kernel: Kernel, nonlinearity: str) -> fx.Node:
        activation, weight = node.args[:2]
        bias = bias_of(node)
        assert isinstance(activation, fx.Node)
        assert isinstance(weight, fx.Node)
        example = weight.meta[EXAMPLE]
        planes = self._planes.of(weight, level)
        new_bias: Any = self._copies[bias] if isinstance(bias, fx.Node) else None
        epilogue = Epilogue(new_bias, nonlinearity, example.dtype)
        weight_only = kernel.operator == "weight_only_linear"
        activations: Any = (
            self._turned(activation, weight) if weight_only else self._quantized(node, activation, weight)
        )
        return self._graph.call_function(kernel.target, flatten(activations, planes, epilogue, kernel.name))

    def _balanced(self, activation: fx.Node, weight: fx.Node) -> fx.Node:
        """An activation as a weight takes it. Layers that read one activation share their factors."""
        factors = self._planes.factors(weight)
        if factors is None:
            return self._copies[activation]
        if activation not in self._products:
            product = self._graph.call_function(operator.mul, (self._copies[activation], factors))
            self._products[activation] = self._graph.call_method("to", (product, weight.meta[EXAMPLE].dtype))
        return self._products[activation]

    def _turned(self, activation: fx.Node, weight: fx.Node) -> fx.Node:
        """An activation that is not quantized, as a weight takes it."""
        rotation = rotation_of(weight)
        if not rotation:
            return self._balanced(activation, weight)
        key = activation, is_balanced(weight), rotation
        if key not in self._rotated:
            args = self._balanced(activation, weight), rotation
            self._rotated[key] = self._graph.call_function(torch.ops.tadp.rotate.default, args)
        return self._rotated[key]

    def _quantized(self, node: fx.Node, activation: fx.Node, weight: fx.Node) -> Codes:
        example = weight.meta[EXAMPLE]
        key = activation, getattr(example, "groups", 0), is_balanced(weight), rotation_of(weight)
        if key not in self._codes:
            args = (self._balanced(activation, weight), key[1], *([key[3]] if key[3] else []))
            both = self._graph.call_function(quantizer(example.device), args)
            both.meta = dict(node.meta)  # a probe names what it measures here after the first layer that reads it
            parts: list[Any] = [self._graph.call_function(operator.getitem, (both, index)) for index in range(3)]
            self._codes[key] = Codes(*parts)
        return self._codes[key]


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

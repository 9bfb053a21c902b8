"""Fourth pass: let a variant also return what is measured in it. What is measured is the caller's business."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tadp.passes.annotate import LINEAR, annotation
from tadp.passes.attention import arguments_of, is_attention
from tadp.passes.partition import EXAMPLE
from tadp.passes.quantize import QUANTIZERS

LINEAR_INPUTS = (*LINEAR, *QUANTIZERS, torch.ops.tadp.weight_only_linear.default)
"""What takes a linear's input as its first argument."""

Measure = Callable[..., torch.Tensor]


@dataclass(frozen=True)
class Measures:
    """The functions that a probe runs inside a piece; each gives one row of numbers per sample of the batch.

    Attributes:
        attention: of query, key, mask and scale (None where not given) of an attention product.
        activation: of the input of a linear layer that may be quantized.
        change: of a block's input and output.
    """

    attention: Measure
    activation: Measure
    change: Measure


@dataclass(frozen=True)
class Reading:
    """What one extra output of a probe holds: the kind is a field of `Measures`, the layer is what was measured."""

    kind: str
    layer: str


def probe(graph: fx.GraphModule, measures: Measures) -> tuple[fx.GraphModule, tuple[Reading, ...]]:
    """Append readings to the outputs of a piece or of a variant's graph, which is changed in place."""
    output = graph.graph.output_node()
    results: list[Any] = list(output.args[0])  # type: ignore[arg-type]
    readings: list[Reading] = []
    measured: list[fx.Node] = []
    seen: set[fx.Node] = set()
    for node in list(graph.graph.nodes):
        found = annotation(node)
        layer = found.layer or node.name
        if is_attention(node):
            given = arguments_of(node)
            measured.append(_insert(graph, output, measures.attention, given.q, given.k, given.mask, given.scale))
            readings.append(Reading("attention", layer))
        elif node.op == "call_function" and node.target in LINEAR_INPUTS:
            source = node.args[0]
            if isinstance(source, fx.Node) and source not in seen:
                seen.add(source)
                measured.append(_insert(graph, output, measures.activation, source))
                readings.append(Reading("activation", layer))
    before = _block_input(graph, results)
    if before is not None:
        measured.append(_insert(graph, output, measures.change, before, results[0]))
        readings.append(Reading("change", ""))
    output.args = (tuple(results + measured),)
    graph.recompile()
    return graph, tuple(readings)


def _insert(graph: fx.GraphModule, before: fx.Node, function: Measure, *arguments: object) -> fx.Node:
    with graph.graph.inserting_before(before):
        return graph.graph.call_function(function, arguments)  # type: ignore[arg-type]


def _block_input(graph: fx.GraphModule, results: list[fx.Node]) -> fx.Node | None:
    """The first input that looks like the first result: the stream of tokens that a block adds to."""
    if not results:
        return None
    wanted = results[0].meta.get(EXAMPLE)
    if not isinstance(wanted, torch.Tensor):
        return None
    for node in graph.graph.find_nodes(op="placeholder"):
        example = node.meta.get(EXAMPLE)
        if isinstance(example, torch.Tensor) and example.shape == wanted.shape and example.dtype == wanted.dtype:
            return node
    return None

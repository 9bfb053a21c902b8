"""Fifth pass: let a variant also return what is measured in it. What is measured is the caller's business."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from tadp.passes.annotate import annotation
from tadp.passes.attention import arguments_of, is_attention
from tadp.passes.measured import Measure, insert
from tadp.passes.operations import EXAMPLE, LINEAR
from tadp.passes.quantize import QUANTIZERS
from tadp.passes.symbols import inputs_of, shape_of, storage_of

LINEAR_INPUTS = (
    *LINEAR,
    *QUANTIZERS,
    torch.ops.tadp.weight_only_linear.default,
    torch.ops.tadp.registered_weight_only_linear.default,
)
"""What takes a linear's input as its first argument."""

IN_PLACE = (
    *(operator.setitem, operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv),
    *(operator.imatmul, operator.imod, operator.ipow, operator.iand, operator.ior, operator.ixor),
)


@dataclass(frozen=True)
class Measures:
    """The functions that a probe runs inside a piece, by signal; each gives one row of numbers per sample of the batch.

    Attributes:
        attention: of query, key, mask and scale (None where not given) of the first attention product, which in a
            block is self-attention.
        linear_input: of the input of a linear layer that may be quantized.
        block: of a block's input and output.
    """

    attention: Mapping[str, Measure]
    linear_input: Mapping[str, Measure]
    block: Mapping[str, Measure]


@dataclass(frozen=True)
class Reading:
    """What one extra output of a probe holds: the signal, and the layer that it was measured at; "" for the block."""

    signal: str
    layer: str


@dataclass(frozen=True)
class Probed:
    """A graph that also measures.

    Attributes:
        graph: the graph; readings follow its own outputs.
        readings: what each extra output holds.
        stream: position of the output that holds the stream of tokens which the block adds to; None without one, and
            where running the graph once more would change what a block was given.
    """

    graph: fx.GraphModule
    readings: tuple[Reading, ...]
    stream: int | None


def probe(graph: fx.GraphModule, measures: Measures) -> Probed:
    """Append readings to the outputs of a piece or of a variant's graph, which is changed in place.

    Measures that look at a sample of tokens ask how many there are. In a graph whose sizes are open they are therefore
    not compiled into it, but run as they are, on what the graph hands them.
    """
    whole = bool(inputs_of(graph))
    output = graph.graph.output_node()
    results: list[Any] = list(output.args[0])  # type: ignore[arg-type]
    readings: list[Reading] = []
    measured: list[fx.Node] = []
    seen: set[fx.Node] = set()
    attended = False
    for node in list(graph.graph.nodes):
        found = annotation(node)
        layer = found.layer or node.name
        if is_attention(node) and not attended:
            attended = True
            given = arguments_of(node)
            for signal, measure in measures.attention.items():
                arguments = (given.q, given.k, given.mask, given.scale)
                measured.append(insert(graph, output, measure, arguments, as_it_is=whole))
                readings.append(Reading(signal, ""))
        elif node.op == "call_function" and node.target in LINEAR_INPUTS:
            source = node.args[0]
            if isinstance(source, fx.Node) and source not in seen:
                seen.add(source)
                for signal, measure in measures.linear_input.items():
                    measured.append(insert(graph, output, measure, (source,), as_it_is=whole))
                    readings.append(Reading(signal, layer))
    stream = _stream(graph, results)
    if stream is not None:
        before, position = stream
        for signal, measure in measures.block.items():
            measured.append(insert(graph, output, measure, (before, results[position])))
            readings.append(Reading(signal, ""))
    output.args = (tuple(results + measured),)
    graph.recompile()
    return Probed(graph, tuple(readings), None if stream is None or _changes_inputs(graph) else stream[1])


def _stream(graph: fx.GraphModule, results: list[fx.Node]) -> tuple[fx.Node, int] | None:
    """The first input that looks like a result, with the result's position: the tokens that a block adds to."""
    for position, result in enumerate(results):
        wanted = result.meta.get(EXAMPLE)
        if not isinstance(wanted, torch.Tensor) or not wanted.is_floating_point():
            continue
        for node in graph.graph.find_nodes(op="placeholder"):
            example = node.meta.get(EXAMPLE)
            alike = isinstance(example, torch.Tensor) and shape_of(node) == shape_of(result)
            if alike and example.dtype == wanted.dtype:
                return node, position
    return None


def _changes_inputs(graph: fx.GraphModule) -> bool:
    """Whether any operation writes into an input of the graph or, as far as can be told, may."""
    inputs = {storage for node in graph.graph.find_nodes(op="placeholder") if (storage := storage_of(node)) is not None}
    for node in graph.graph.nodes:
        for target in _written(node):
            storage = storage_of(target) if isinstance(target, fx.Node) else None
            if storage is None or storage in inputs:
                return True
    return False


def _written(node: fx.Node) -> list[object]:
    """The arguments that an operation writes into."""
    if isinstance(node.target, torch._ops.OpOverload):
        schema = node.target._schema.arguments
        given = [
            *zip(schema, node.args, strict=False),
            *((a, node.kwargs[a.name]) for a in schema if a.name in node.kwargs),
        ]
        return [value for argument, value in given if argument.alias_info is not None and argument.alias_info.is_write]
    found: list[object] = [node.kwargs["out"]] if "out" in node.kwargs else []
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    by_name = node.op in ("call_method", "call_function") and name.endswith("_") and not name.endswith("__")
    if by_name or node.target in IN_PLACE or node.kwargs.get("inplace"):
        found.append(node.args[0] if node.args else node.kwargs.get("input"))
    return found

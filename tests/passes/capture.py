"""What Dynamo hands to a backend, for tests of single passes."""

from collections.abc import Callable

import torch
from torch import fx

from tadp.passes import annotate, partition
from tadp.passes.partition import Partition


def captured(
    model: torch.nn.Module, inputs: dict[str, object], settled: Callable[[fx.GraphModule], object] | None = None
) -> tuple[fx.GraphModule, list[object]]:
    """The graph of a model that is captured whole, and what it is called with.

    Its sizes are symbols where `settled` is given, which is called with the graph while Dynamo holds it.
    """
    graphs: list[tuple[fx.GraphModule, list[object]]] = []

    def backend(graph: fx.GraphModule, _: list[object]) -> object:
        if settled is not None:
            settled(graph)

        def run(*arguments: object) -> object:
            graphs.append((graph, list(arguments)))
            return graph.forward(*arguments)

        return run

    torch._dynamo.reset()
    with torch.no_grad():
        torch.compile(model, backend=backend, dynamic=settled is not None)(**inputs)
    assert len(graphs) == 1
    return graphs[0]


def pieces_of(model: torch.nn.Module, inputs: dict[str, object]) -> tuple[Partition, list[object]]:
    graph, arguments = captured(model, inputs)
    return partition(annotate(graph)), arguments


def run_pieces(found: Partition, arguments: list[object]) -> object:
    """Run all pieces uncompiled."""
    environment = [*arguments, *[None] * (found.slots - len(arguments))]
    for piece in found.pieces:
        results = piece.graph(*[environment[slot] for slot in piece.inputs])
        for slot, value in zip(piece.outputs, results, strict=True):
            environment[slot] = value
        for slot in piece.dead:
            environment[slot] = None
    return found.collect(environment)

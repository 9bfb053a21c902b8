"""Normalized graphs compute what they did, with regions written out and linears called by position."""

from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.utils.checkpoint import checkpoint

from tadp.passes.normalize import normalize
from tadp.passes.operations import is_linear

pytestmark = pytest.mark.compiles

X = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))


def _captured(function: Callable[..., object], *inputs: torch.Tensor) -> tuple[fx.GraphModule, list[torch.Tensor]]:
    torch._dynamo.reset()
    found: list[tuple[fx.GraphModule, list[torch.Tensor]]] = []

    def backend(graph: fx.GraphModule, examples: list[torch.Tensor]) -> Callable[..., object]:
        found.append((graph, examples))
        return graph.forward

    with torch.no_grad():
        torch.compile(function, backend=backend, dynamic=False)(*inputs)
    ((graph, examples),) = found
    return graph, examples


def test_checkpointed_regions_are_written_out_at_any_depth() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)

    def inner(x: torch.Tensor) -> torch.Tensor:
        return second(x).relu()

    def outer(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return first(x), checkpoint(inner, x * 2, use_reentrant=False)

    def model(x: torch.Tensor) -> torch.Tensor:
        a, b = checkpoint(outer, x, use_reentrant=False)
        return a + b

    graph, examples = _captured(model, X)
    assert not any(map(is_linear, graph.graph.nodes))
    normalize(graph)
    assert sum(map(is_linear, graph.graph.nodes)) == 2
    assert not any(isinstance(node.target, torch._ops.HigherOrderOperator) for node in graph.graph.nodes)
    with torch.no_grad():
        assert torch.equal(graph(*examples)[0], model(X))


def test_linears_are_called_by_position() -> None:
    layer = nn.Linear(4, 5)

    def model(x: torch.Tensor) -> torch.Tensor:
        both = nn.functional.linear(bias=layer.bias, input=x, weight=layer.weight)
        return both + nn.functional.linear(x, weight=layer.weight)

    graph, examples = _captured(model, X)
    normalize(graph)
    counts = [len(node.args) for node in graph.graph.nodes if is_linear(node)]
    assert counts == [3, 2]
    assert not any(node.kwargs for node in graph.graph.nodes if is_linear(node))
    with torch.no_grad():
        assert torch.equal(graph(*examples)[0], model(X))


def test_regions_that_decide_something_stay() -> None:
    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))

    graph, examples = _captured(model, X)
    normalize(graph)
    assert any(isinstance(node.target, torch._ops.HigherOrderOperator) for node in graph.graph.nodes)
    assert torch.equal(graph(*examples)[0], model(X))

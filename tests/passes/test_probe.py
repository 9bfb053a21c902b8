from collections.abc import Callable

import pytest
import torch
from torch import fx

from tadp.passes import Measures, Reading, probe
from tadp.passes.operations import EXAMPLE

pytestmark = pytest.mark.compiles

Block = Callable[[torch.Tensor, torch.Tensor], object]


def _sum(*values: torch.Tensor | float | None) -> torch.Tensor:
    return sum(value.sum() for value in values if isinstance(value, torch.Tensor))  # type: ignore[return-value]


MEASURES = Measures({"attention": _sum}, {"moments": _sum, "rounding": _sum}, {"change": _sum})


def _captured(function: Block) -> fx.GraphModule:
    """A graph as Dynamo captures it, with one tuple of outputs and an example at every node, as pieces have them."""
    torch._dynamo.reset()
    graphs: list[fx.GraphModule] = []

    def backend(graph: fx.GraphModule, examples: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    with torch.no_grad():
        torch.compile(function, backend=backend, dynamic=False)(torch.randn(2, 6, 8), torch.randn(8, 8))
    return graphs[0]


def _linear(x: torch.Tensor, weight: torch.Tensor) -> object:
    return x + torch.nn.functional.linear(x, weight)


def _attending(x: torch.Tensor, weight: torch.Tensor) -> object:
    heads = torch.nn.functional.linear(x, weight)[:, None]
    once = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)
    return x + torch.nn.functional.scaled_dot_product_attention(once, heads, heads)[:, 0]


def _with_a_map(x: torch.Tensor, weight: torch.Tensor) -> object:
    return x > 0, x + torch.nn.functional.linear(x, weight)


def _into_its_own(x: torch.Tensor, weight: torch.Tensor) -> object:
    own = torch.empty_like(x)
    own[..., 0::2] = x[..., 1::2]
    own[..., 1::2] = x[..., 0::2]
    own += 1
    return x + torch.nn.functional.linear(own.mul_(2), weight)


def _item(x: torch.Tensor, weight: torch.Tensor) -> object:
    x[:, 0] = 0
    return x + torch.nn.functional.linear(x, weight)


def _through_a_view(x: torch.Tensor, weight: torch.Tensor) -> object:
    x.view(2, 48).mul_(2)
    return x + torch.nn.functional.linear(x, weight)


def _augmented(x: torch.Tensor, weight: torch.Tensor) -> object:
    x += torch.nn.functional.linear(x, weight)
    return x * 1


def _keyword(x: torch.Tensor, weight: torch.Tensor) -> object:
    torch.add(weight, 1, out=weight)
    return x + torch.nn.functional.linear(x, weight)


def test_every_input_of_a_linear_is_measured_once_and_the_first_attention() -> None:
    probed = probe(_captured(_attending), MEASURES)
    assert [reading.signal for reading in probed.readings] == ["moments", "rounding", "attention", "change"]


def test_readings_follow_the_outputs() -> None:
    probed = probe(_captured(_linear), MEASURES)
    x, weight = torch.ones(2, 6, 8), torch.eye(8)
    result, moments, rounding, change = probed.graph(x, weight)
    assert torch.equal(result, 2 * x)
    assert (moments.item(), rounding.item(), change.item()) == (96, 96, 96 + 192)
    assert probed.readings[-1] == Reading("change", "")


@pytest.mark.parametrize(
    ("function", "stream"),
    [(_linear, 0), (_with_a_map, 1), (_into_its_own, 0)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_stream_is_the_output_that_looks_like_an_input(function: Block, stream: int) -> None:
    assert probe(_captured(function), MEASURES).stream == stream


@pytest.mark.parametrize("function", [_item, _through_a_view, _augmented, _keyword], ids=lambda f: f.__name__)
def test_graphs_that_change_what_they_are_given_must_not_run_twice(function: Block) -> None:
    probed = probe(_captured(function), MEASURES)
    assert probed.stream is None
    assert probed.readings[-1].signal == "change"


def test_without_a_stream_there_is_no_change() -> None:
    probed = probe(_captured(lambda x, weight: torch.nn.functional.linear(x, weight[:4])), MEASURES)
    assert probed.stream is None
    assert {reading.signal for reading in probed.readings} == {"moments", "rounding"}


def test_every_captured_node_has_an_example() -> None:
    """What tells writes into inputs apart needs them."""
    graph = _captured(_into_its_own).graph
    assert all(EXAMPLE in node.meta for node in graph.nodes if node.op == "placeholder")

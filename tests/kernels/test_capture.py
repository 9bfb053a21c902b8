import operator

import pytest
import torch
from torch import fx, nn

from tadp.kernels import BitPlaneWeight, pack_linear_

pytestmark = pytest.mark.compiles


def packed_linear() -> nn.Linear:
    torch.manual_seed(0)
    linear = nn.Linear(13, 24)
    pack_linear_(linear)
    return linear


def test_dynamo_keeps_a_linear_with_its_weight_as_graph_input() -> None:
    seen: list[tuple[fx.GraphModule, list[torch.Tensor]]] = []

    def backend(graph: fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        seen.append((graph, inputs))
        return graph.forward

    linear, x = packed_linear(), torch.randn(3, 13)
    torch._dynamo.reset()
    with torch.no_grad():
        found = torch.compile(linear, backend=backend)(x)
    ((graph, inputs),) = seen
    calls = [node for node in graph.graph.nodes if node.op == "call_function"]
    assert [node.target for node in calls] == [torch._C._nn.linear]
    assert sum(isinstance(value, BitPlaneWeight) for value in inputs) == 1
    assert calls[0].args[1].op == "placeholder"
    assert torch.equal(found, linear(x))


def test_a_backend_that_knows_nothing_of_planes_still_runs_integers() -> None:
    linear, x = packed_linear(), torch.randn(3, 13)
    torch._dynamo.reset()
    with torch.no_grad():
        found = torch.compile(linear, backend="aot_eager", fullgraph=True)(x)
    assert torch.equal(found, linear(x))


def test_operators_trace_with_a_changing_number_of_tokens() -> None:
    weight = packed_linear().weight
    planes = (weight.high, weight.mid, weight.low, weight.scale)

    def run(x: torch.Tensor) -> torch.Tensor:
        codes, scale, total = torch.ops.tadp.quantize(x)
        return operator.add(torch.ops.tadp.linear(codes, scale, total, *planes, None, x.dtype), 0)

    torch._dynamo.reset()
    compiled = torch.compile(run, backend="aot_eager", dynamic=True, fullgraph=True)
    for tokens in (2, 5, 9):
        x = torch.randn(tokens, 13)
        assert torch.equal(compiled(x), run(x))

"""Which calls of tadp's operators a graph makes, and on what shapes: for compiling their kernels before they run."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import unset_fake_temporarily

from tadp.kernels.calls import Call
from tadp.kernels.operators import PRODUCTS
from tadp.passes.lower import example_inputs

_OPERATORS = {
    getattr(torch.ops.tadp, f"{prefix}{name}").default: name for name in PRODUCTS for prefix in ("", "registered_")
}


def calls_in(graph: fx.GraphModule, device: torch.device) -> tuple[Call, ...]:
    """The calls of operators that have kernels to choose from, in the order in which the graph makes them.

    Args:
        graph: as the quantize pass writes it: placeholders carry example tensors.
        device: what those on the meta device stand for.
    """
    if not any(node.target in _OPERATORS for node in graph.graph.nodes):
        return ()
    mode = FakeTensorMode(allow_non_fake_inputs=True)  # constants of the graph are real
    with mode, torch.no_grad():
        recorder = _Recorder(graph)
        recorder.run(*example_inputs(graph, device))
    return tuple(recorder.calls)


class _Recorder(fx.Interpreter):
    """Runs a graph on tensors without memory, and keeps what operators are called with."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.calls: list[Call] = []

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        operator = _OPERATORS.get(target)
        if operator is not None:
            names = [argument.name for argument in target._schema.arguments]
            with unset_fake_temporarily():
                self.calls.append(Call.of(operator, {**dict(zip(names, args, strict=False)), **kwargs}))
        return super().call_function(target, args, dict(kwargs))

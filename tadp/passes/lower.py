"""Last pass: one Inductor compilation for a graph whose inputs are known by shape and type."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import fx
from torch._guards import TracingContext, tracing
from torch._inductor.compile_fx import compile_fx
from torch._subclasses import FakeTensorMode

from tadp.passes.partition import EXAMPLE

Compiled = Callable[..., Sequence[torch.Tensor]]


def lower(graph: fx.GraphModule, device: torch.device, options: dict[str, object] | None = None) -> Compiled:
    """Compile a graph for inference.

    The graph is compiled on its own, not as a part of whatever Dynamo traces at the moment, so that variants can be
    added at any time.

    Args:
        graph: placeholders carry example tensors; those on the meta device stand for tensors on `device`.
        device: where the graph will run.
        options: Inductor options, as `torch.compile` takes them.
    """
    mode = FakeTensorMode(static_shapes=True)
    with mode:
        inputs: list[Any] = [_like(node.meta[EXAMPLE], device) for node in graph.graph.find_nodes(op="placeholder")]
    with torch.no_grad(), tracing(TracingContext(mode)):
        return cast(Compiled, compile_fx(graph, inputs, config_patches=dict(options or {})))


def _like(example: object, device: torch.device) -> object:
    if not isinstance(example, torch.Tensor):
        return example
    target = device if example.device.type == "meta" else example.device
    return torch.empty_strided(example.shape, example.stride(), dtype=example.dtype, device=target)

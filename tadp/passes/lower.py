"""Last pass: one Inductor compilation for a graph whose inputs are known by shape and type."""

import hashlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import torch
from torch import fx
from torch._guards import TracingContext, tracing
from torch._inductor.compile_fx import compile_fx
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from tadp.passes.operations import EXAMPLE
from tadp.version import VERSION

Compiled = Callable[..., Sequence[torch.Tensor]]

_ON_GPUS: dict[str, object] = {"realize_reads_threshold": 8}
"""A modulated norm has more reads than Inductor computes twice by default; stored in float32 in front of its quantizer,
it costs a block of Wan2.1-14B a third of all bytes that its kernels write (`make gpu-dry-run`)."""


def lower(graph: fx.GraphModule, device: torch.device, options: dict[str, object] | None = None) -> Compiled:
    """Compile a graph for inference.

    The graph is compiled on its own, not as a part of whatever Dynamo traces at the moment, so that variants can be
    added at any time.

    Args:
        graph: placeholders carry example tensors; those on the meta device stand for tensors on `device`.
        device: where the graph will run.
        options: Inductor options, as `torch.compile` takes them.
    """
    mode = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True)  # without one Inductor's disk cache is bypassed
    with mode:
        inputs = example_inputs(graph, device)
    # Graphs on disk hold calls of this package's operators, so those of another version must not be found.
    tag = f"{torch.compiler.config.cache_key_tag}tadp-{VERSION}"
    settings = torch.compiler.config.patch(cache_key_tag=tag)  # type: ignore[attr-defined]
    with torch.no_grad(), tracing(TracingContext(mode)), settings:
        own = _ON_GPUS if device.type == "cuda" else {}
        patches = {"unsafe_marked_cacheable_functions": _cacheable_functions(graph), **own, **(options or {})}
        return cast(Compiled, compile_fx(graph, inputs, config_patches=patches))


def example_inputs(graph: fx.GraphModule, device: torch.device) -> list[Any]:
    """Tensors like a graph's inputs: those of its placeholders' examples that are on the meta device on `device`."""
    return [_like(node.meta[EXAMPLE], device) for node in graph.graph.find_nodes(op="placeholder")]


def _cacheable_functions(graph: fx.GraphModule) -> dict[str, str]:
    """The Python functions that a probe calls, each with a hash of the file it comes from: they may be found on disk.

    PyTorch trusts its own functions only, as a cached graph would outlive a change of any other.
    """
    found: dict[str, str] = {}
    for node in graph.graph.nodes:
        if isinstance(node.target, FunctionType) and not node.target.__module__.startswith("torch"):
            source = inspect.getsourcefile(node.target)
            if source is not None:
                digest = hashlib.sha256(Path(source).read_bytes()).hexdigest()
                found[f"{node.target.__module__}.{node.target.__name__}"] = digest
    return found


def _like(example: object, device: torch.device) -> object:
    if not isinstance(example, torch.Tensor):
        return example
    target = device if example.device.type == "meta" else example.device
    return torch.empty_strided(example.shape, example.stride(), dtype=example.dtype, device=target)

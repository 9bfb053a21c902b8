"""The torch.compile backend: `torch.compile(model, backend="tadp")`."""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import fx

from tadp import passes
from tadp.compiler.timesteps import TimestepReader
from tadp.compiler.variants import Variants
from tadp.errors import PrecisionFallbackWarning
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.passes.operations import EXAMPLE
from tadp.runtime.controller import Controller, ModelFacts
from tadp.runtime.pool import WeightPool


def backend(graph: fx.GraphModule, example_inputs: Sequence[object], **_: object) -> Callable[..., object]:
    """What ``torch.compile(model, backend="tadp")`` calls: the complexity policy on a model that is left as it is.

    The model keeps its weights, so nothing is saved in memory; planes are packed at the first forward. `tadp.compile`
    does more: it saves memory, follows generations through graph breaks, and takes any policy.
    """
    try:
        found = passes.partition(passes.annotate(passes.settle(passes.normalize(graph))))
    except passes.UnknownSizesError as error:
        _warn(f"this graph runs uncompiled at 16 bits, leave dynamic out or pass dynamic=False: {error}")
        return graph.forward
    blocks = tuple(dict.fromkeys(piece.block for piece in found.pieces if piece.block))
    controller = Controller("complexity", WeightPool(BitPlaneWeight.from_hp), Variants({}), ModelFacts(blocks))
    dispatcher = controller.attach(found)
    if not blocks:
        _warn("no repeated blocks in this graph, it runs at 16 bits: use tadp.compile(model) for models that break")
    timestep, timesteps = _timestep_input(graph), TimestepReader()

    def call(*arguments: object) -> object:
        given = {} if timestep is None else {"timestep": arguments[timestep]}
        with torch.no_grad():
            return controller.step(timesteps.read(given), lambda: dispatcher(*arguments))

    return call


def _timestep_input(graph: fx.GraphModule) -> int | None:
    """Which input of a captured graph looks like the timestep: named so, or else a scalar or one number per sample."""
    inputs = graph.graph.find_nodes(op="placeholder")
    named = [i for i, node in enumerate(inputs) if "timestep" in node.name.lower() and "module" not in node.name]
    if named:
        return named[0]
    for index, node in enumerate(inputs):
        example = node.meta.get(EXAMPLE)
        argument = node.meta.get("grapharg")
        given = argument is not None and not isinstance(argument.example, torch.nn.Parameter)
        if given and isinstance(example, torch.Tensor) and example.ndim <= 1 and "_modules" not in argument.source.name:
            return index
    return None


def _warn(message: str) -> None:
    warnings.warn(message, PrecisionFallbackWarning, stacklevel=3)

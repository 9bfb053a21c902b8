"""The torch.compile backend of a block: graphs are cut into pieces, and a controller takes charge of them."""

import weakref
from collections.abc import Callable, Sequence

import torch
from torch import fx

from tadp import passes
from tadp.passes.annotate import plain_path
from tadp.runtime.controller import Controller


class BlockBackend:
    """The torch.compile backend of one block.

    Backends of one model are equal. Dynamo compares them before it runs a captured graph for another block than the one
    that it was captured from, so it traces one block of a kind, however many there are.
    """

    def __init__(self, path: str, block: torch.nn.Module, controller: Controller) -> None:
        self._path = path
        self._block = block
        self._controller = controller

    def __call__(self, graph: fx.GraphModule, example_inputs: Sequence[object]) -> Callable[..., object]:
        """What Dynamo calls with every graph it has traced."""
        prefix = ".".join(filter(None, (self._path, frame_within(self._block, graph))))
        annotated = passes.annotate(graph, prefix, frozenset(self._controller.blocks))
        return weakly(self._controller.attach(passes.partition(annotated)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockBackend) and other._controller is self._controller

    def __hash__(self) -> int:
        return id(self._controller)


class Receiver:
    """What PyTorch gets to know of a backend. It is equal to another one where their backends are.

    PyTorch keeps every backend in a global table until Dynamo is reset. A weak reference there does not keep the
    model's weights alive.
    """

    def __init__(self, backend: BlockBackend) -> None:
        self._backend = weakref.ref(backend)

    def __call__(self, graph: fx.GraphModule, example_inputs: Sequence[object], **_: object) -> Callable[..., object]:
        backend = self._backend()
        assert backend is not None  # owned by the compiled model, and only the model leads here
        return backend(graph, example_inputs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Receiver) and self._backend == other._backend

    def __hash__(self) -> int:
        return hash(self._backend)


def weakly(function: Callable[..., object]) -> Callable[..., object]:
    """A function that PyTorch may keep in its global caches without keeping a model's weights alive with it.

    Compiled code belongs to the code of a class's `forward`, which outlives the models of that class.
    """
    reference = weakref.ref(function)

    def call(*arguments: object) -> object:
        target = reference()
        assert target is not None  # owned by the model's controller, and only the model leads here
        return target(*arguments)

    return call


def frame_within(block: torch.nn.Module, graph: fx.GraphModule) -> str:
    """Path within a block of the module whose `forward` a graph was captured from.

    "" for the block itself. Where Dynamo cannot trace through a part of the block, it captures that part on its own.
    """
    for node in graph.graph.find_nodes(op="placeholder"):
        argument = node.meta.get("grapharg")
        if argument is None:
            continue
        inside = plain_path(argument.source.name)
        paths = [
            path.removesuffix(inside)
            for path, parameter in block.named_parameters(remove_duplicate=False)
            if parameter is argument.example and f".{path}".endswith(f".{inside}")
        ]
        if paths:
            return min(paths, key=len).rstrip(".")
    return ""

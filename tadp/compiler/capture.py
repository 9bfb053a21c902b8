"""What torch.compile hands a model's graphs to: they are cut into pieces, and the controller takes charge of them."""

import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence

from torch import fx

from tadp import passes
from tadp.compiler.fixed_sizes import FixedSizes
from tadp.errors import PrecisionFallbackWarning
from tadp.families.family import Family, plain_name
from tadp.passes.annotate import module_path
from tadp.passes.operations import is_linear
from tadp.runtime.controller import Controller
from tadp.runtime.pool import WeightPool


class Capture:
    """The torch.compile backend of all blocks of one model.

    One for all blocks, because Dynamo runs a captured graph for another block only where the backend is the same: it
    traces one block of a kind, however many there are.
    """

    def __init__(
        self, controller: Controller, pool: WeightPool, family: Family, stays_at_16: Mapping[str, str]
    ) -> None:
        """A backend for the blocks that a controller knows; `stays_at_16` has a reason for each unpacked layer."""
        self._controller = controller
        self._pool = pool
        self._family = family
        self._stays_at_16 = stays_at_16
        self._fixed = FixedSizes()

    def __call__(self, graph: fx.GraphModule, example_inputs: Sequence[object]) -> Callable[..., object]:
        """What Dynamo calls with every graph it has traced."""
        prefix = self._prefix(passes.normalize(graph))
        if (obstacle := self._fixed.obstacle(prefix, graph)) is not None:
            _warn(f"{prefix or 'a block'} {obstacle}")
        blocks = frozenset(self._controller.blocks)
        try:
            annotated = passes.annotate(
                passes.settle(graph), prefix, blocks, self._family, self._stays_at_16, self._layer_of
            )
            pieces = passes.partition(annotated)
        except passes.UnknownSizesError as error:
            _warn(f"{prefix or 'a block'} runs uncompiled, at 8 bits where its weights are packed: {error}")
            return graph.forward
        return weakly(self._controller.attach(pieces))

    def _prefix(self, graph: fx.GraphModule) -> str:
        """Path of the module that a graph was captured from, told from where the pool knows its weights to belong.

        After a graph break inside a block, Dynamo captures inner functions by themselves, and names in their graphs
        begin at any submodule: only the weights tell where that lies.
        """
        for node in filter(is_linear, graph.graph.nodes):
            layer = self._layer_of(node.args[1])
            path = plain_name(module_path(node))
            if layer is not None and layer.endswith(path):
                return layer[: len(layer) - len(path)].rstrip(".")
        return ""

    def _layer_of(self, weight: object) -> str | None:
        """The layer that a weight among a graph's inputs belongs to."""
        argument = weight.meta.get("grapharg") if isinstance(weight, fx.Node) else None
        return None if argument is None else self._pool.layer_of(argument.example)


def _warn(message: str) -> None:
    warnings.warn(message, PrecisionFallbackWarning, stacklevel=3)


def weakly(function: Callable[..., object]) -> Callable[..., object]:
    """A function that PyTorch may keep in its global caches without keeping a model's weights alive with it.

    Compiled code belongs to the code of a class's `forward`, which outlives the models of that class.
    """
    reference = weakref.ref(function)

    def call(*arguments: object, **options: object) -> object:
        target = reference()
        assert target is not None  # owned by the compiled model, and only the model leads here
        return target(*arguments, **options)

    return call

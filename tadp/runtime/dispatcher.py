"""Dispatcher: runs the pieces of a captured graph, each in the variant that the plan names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

import torch

from tadp.precision import Plan, Recipe
from tadp.runtime.pool import WeightPool
from tadp.runtime.signals import BlockSignals, read


class Piece(Protocol):
    """What the dispatcher needs to know of a piece; passes/partition.py makes them and says what each field means."""

    @property
    def name(self) -> str: ...
    @property
    def block(self) -> str | None: ...
    @property
    def inputs(self) -> tuple[int, ...]: ...
    @property
    def outputs(self) -> tuple[int, ...]: ...
    @property
    def dead(self) -> tuple[int, ...]: ...
    @property
    def weight(self) -> int | None: ...


PieceT = TypeVar("PieceT", bound=Piece)
PieceT_co = TypeVar("PieceT_co", bound=Piece, covariant=True)


class Partition(Protocol[PieceT_co]):
    """What the dispatcher needs to know of a partition."""

    @property
    def pieces(self) -> tuple[PieceT_co, ...]: ...
    @property
    def slots(self) -> int: ...
    def collect(self, environment: list[object]) -> object: ...


@dataclass(frozen=True)
class Variant:
    """A structure compiled for a recipe.

    Attributes:
        function: takes the values, then the weights; returns the piece's outputs, then the readings.
        values: which of the piece's inputs it takes as they are.
        weights: which of the piece's inputs it takes parts of, and which part.
        readings: kind and layer of every extra output; empty outside probes.
    """

    function: Callable[..., Sequence[torch.Tensor]]
    values: tuple[int, ...]
    weights: tuple[tuple[int, str], ...]
    readings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class _Bound:
    """A variant together with the weights of one block."""

    block: str
    captured: str | None  # the block that the graph, and so the names of its layers, come from
    variant: Variant
    values: Callable[[Sequence[object]], Sequence[object]]
    weights: tuple[torch.Tensor, ...]
    key: object  # the block's first weight: kept alive, for its id stands for the block
    versions: tuple[tuple[torch.Tensor, int], ...]  # of weights that the model keeps and may change in place

    def is_stale(self) -> bool:
        """Whether a weight was changed in place since its planes were packed."""
        return any(weight._version != version for weight, version in self.versions)

    def named(self, values: Sequence[torch.Tensor]) -> list[tuple[str, str, torch.Tensor]]:
        """Kind, layer in this block, and value of every reading."""
        rows = zip(self.variant.readings, values, strict=True)
        return [(kind, self._own(layer), value) for (kind, layer), value in rows]

    def _own(self, layer: str) -> str:
        captured = self.captured or self.block
        return self.block + layer[len(captured) :] if layer.startswith(captured) else layer

    @property
    def needs_masters(self) -> bool:
        return any(part == "master" for _, part in self.variant.weights)


class Dispatcher(Generic[PieceT]):
    """Runs one captured graph; the plan and whether to probe are set from outside and hold until set again.

    `variant` gives, compiling it if need be, the variant of a piece for a recipe, probing or not.

    Blocks are told apart by their first weight, not by their place in the graph: where a model's code runs the same
    captured graph for several blocks, each still follows its own recipe.
    """

    def __init__(
        self, partition: Partition[PieceT], pool: WeightPool, variant: Callable[[PieceT, Recipe, bool], Variant]
    ) -> None:
        self.partition = partition
        self._readings: list[tuple[_Bound, Sequence[torch.Tensor]]] = []
        self._pool = pool
        self._variant = variant
        self._served: dict[str, PieceT] = {}
        self._recipes: dict[str, Recipe] = {}
        self._probing = False
        self._kept: dict[tuple[str, int, Recipe, bool], _Bound] = {}
        self._current: list[dict[int, _Bound]] = [{} for _ in partition.pieces]

    def use(self, plan: Plan, probing: bool, keep_masters: frozenset[str] = frozenset()) -> None:
        """Follow another plan from the next forward on. Compiles nothing, maps nothing.

        Blocks that are not in `keep_masters` let go of their 16-bit masters.
        """
        self._recipes, self._probing = dict(plan.recipes), probing
        self._kept = {
            key: bound for key, bound in self._kept.items() if not bound.needs_masters or bound.block in keep_masters
        }
        self._current = [{} for _ in self.partition.pieces]

    def forget_weights(self) -> None:
        """Bind everything anew at the next forward."""
        self._kept = {}
        self._current = [{} for _ in self.partition.pieces]

    def take_measured(self) -> list[BlockSignals]:
        """What probing variants measured since this was last called; waits for the device."""
        readings, self._readings = self._readings, []
        return [read(bound.block, bound.named(values)) for bound, values in readings]

    def served(self) -> tuple[tuple[str, PieceT], ...]:
        """Every block that was run so far, with its piece; pieces outside blocks go by their own name."""
        return tuple(self._served.items())

    def __call__(self, *arguments: object) -> object:
        """Run all pieces on the captured graph's inputs."""
        environment: list[object] = [*arguments, *[None] * (self.partition.slots - len(arguments))]
        for piece, current in zip(self.partition.pieces, self._current, strict=True):
            key = None if piece.weight is None else environment[piece.weight]
            bound = current.get(id(key))
            if bound is None or (bound.versions and bound.is_stale()):
                bound = current[id(key)] = self._bind(piece, key, environment)
            results = bound.variant.function(*bound.values(environment), *bound.weights)
            for slot, value in zip(piece.outputs, results, strict=False):
                environment[slot] = value
            for slot in piece.dead:
                environment[slot] = None
            if bound.variant.readings:
                self._readings.append((bound, results[len(piece.outputs) :]))
        return self.partition.collect(environment)

    def _bind(self, piece: PieceT, key: object, environment: Sequence[object]) -> _Bound:
        block = self._pool.block_of(key) or piece.block
        self._served[block or piece.name] = piece
        recipe = self._recipes.get(block, Recipe()) if block else Recipe()
        probing = self._probing and recipe != Recipe()  # blocks that stay at 16 bits are not measured
        entry = (piece.name, id(key), recipe, probing)
        if entry not in self._kept or self._kept[entry].is_stale():
            variant = self._variant(piece, recipe, probing)
            owned: list[torch.Tensor] = []
            weights: list[torch.Tensor] = []
            for index, part in variant.weights:
                weight = environment[piece.inputs[index]]
                assert isinstance(weight, torch.Tensor)
                weights.append(self._pool.part(weight, part))
                if self._pool.block_of(weight) is None:
                    owned.append(weight)
            values = _getter([piece.inputs[index] for index in variant.values])
            versions = tuple((weight, weight._version) for weight in owned)
            self._kept[entry] = _Bound(block or piece.name, piece.block, variant, values, tuple(weights), key, versions)
        return self._kept[entry]


def _getter(slots: list[int]) -> Callable[[Sequence[object]], Sequence[object]]:
    if len(slots) > 1:
        return itemgetter(*slots)
    return lambda environment: [environment[slot] for slot in slots]

"""Dispatcher: runs the pieces of a captured graph, each in the variant that the plan names."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Generic, Protocol, TypeVar

import torch

from tadp.errors import PrecisionFallbackWarning
from tadp.precision import MASTER, Part, Plan, Recipe
from tadp.runtime.pool import WeightPool
from tadp.runtime.signals import BlockSignals, read, relative_change


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
        stream: position of the output that shadow runs are compared by; None where there is none, and outside probes.
    """

    function: Callable[..., Sequence[torch.Tensor]]
    values: tuple[int, ...]
    weights: tuple[tuple[int, Part], ...]
    readings: tuple[tuple[str, str], ...] = ()
    stream: int | None = None


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
        return any(part == MASTER for _, part in self.variant.weights)


@dataclass(frozen=True)
class _Measured:
    """What one run of a probing variant measured: its readings and, by recipe, the error of a shadow run."""

    bound: _Bound
    readings: Sequence[torch.Tensor]
    shadows: Mapping[Recipe, torch.Tensor]


class Dispatcher(Generic[PieceT]):
    """Runs one captured graph; the plan and whether to probe are set from outside and hold until set again.

    `variant` gives, compiling it if need be, the variant of a piece for a recipe, probing or not; `is_compiled` says of
    a piece and a recipe whether the variant that does not probe is there.

    Blocks are told apart by their first weight, not by their place in the graph: where a model's code runs the same
    captured graph for several blocks, each still follows its own recipe.
    """

    def __init__(
        self,
        partition: Partition[PieceT],
        pool: WeightPool,
        variant: Callable[[PieceT, Recipe, bool], Variant],
        is_compiled: Callable[[PieceT, Recipe], bool] = lambda piece, recipe: False,
    ) -> None:
        self.partition = partition
        self._measured: list[_Measured] = []
        self._pool = pool
        self._variant = variant
        self._is_compiled = is_compiled
        self._served: dict[str, PieceT] = {}
        self._recipes: dict[str, Recipe] = {}
        self._probing = False
        self._keep_masters: frozenset[str] = frozenset()
        self._shadows: Mapping[str, Recipe] = {}
        self._kept: dict[tuple[str, int, Recipe, bool], _Bound] = {}
        self._current: list[dict[int, _Bound]] = [{} for _ in partition.pieces]

    def use(self, plan: Plan, probing: bool, keep_masters: frozenset[str] = frozenset()) -> None:
        """Follow another plan from the next forward on. Compiles nothing, maps nothing.

        Blocks that are not in `keep_masters` let go of their 16-bit masters.
        """
        self._recipes, self._probing, self._keep_masters = dict(plan.recipes), probing, keep_masters
        self._kept = {
            key: bound for key, bound in self._kept.items() if not bound.needs_masters or bound.block in keep_masters
        }
        self._current = [{} for _ in self.partition.pieces]

    def shadow(self, recipes: Mapping[str, Recipe]) -> None:
        """From the next forward on, run these blocks once more, at these recipes, whenever they are measured.

        What comes out of it is compared with what the block gave and thrown away. Only variants that are compiled run.
        """
        self._shadows = recipes

    def forget_weights(self) -> None:
        """Bind everything anew at the next forward."""
        self._kept = {}
        self._current = [{} for _ in self.partition.pieces]

    def take_measured(self) -> list[BlockSignals]:
        """What probing variants measured since this was last called; waits for the device."""
        measured, self._measured = self._measured, []
        return [read(found.bound.block, found.bound.named(found.readings), found.shadows) for found in measured]

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
            if bound.variant.readings:
                shadows = self._run_shadow(piece, bound, environment, results) if self._shadows else {}
                self._measured.append(_Measured(bound, results[len(piece.outputs) :], shadows))
            for slot in piece.dead:
                environment[slot] = None
        return self.partition.collect(environment)

    def _bind(self, piece: PieceT, key: object, environment: Sequence[object]) -> _Bound:
        block = self._pool.block_of(key) or piece.block
        self._served[block or piece.name] = piece
        recipe = self._recipes.get(block, Recipe()) if block else Recipe()
        probing = self._probing and recipe != Recipe()  # blocks that stay at 16 bits are not measured
        return self._bind_variant(piece, key, environment, recipe, probing)

    def _bind_variant(
        self, piece: PieceT, key: object, environment: Sequence[object], recipe: Recipe, probing: bool
    ) -> _Bound:
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
            block = self._pool.block_of(key) or piece.block or piece.name
            self._kept[entry] = _Bound(block, piece.block, variant, values, tuple(weights), key, versions)
        return self._kept[entry]

    def _run_shadow(
        self, piece: PieceT, running: _Bound, environment: Sequence[object], results: Sequence[torch.Tensor]
    ) -> Mapping[Recipe, torch.Tensor]:
        """Run a piece once more at the recipe that its block is to be tried at, if any; error by recipe.

        A failure, such as one of memory, is not worth the forward: it costs the measurement, with a warning.
        """
        recipe, stream = self._shadows.get(running.block), running.variant.stream
        if recipe is None or stream is None or not self._is_compiled(piece, recipe):
            return {}
        result = results[stream]
        try:
            other = self._bind_variant(piece, running.key, environment, recipe, probing=False)
            devices = [result.device] if result.is_cuda else []
            with torch.random.fork_rng(devices):  # whatever a block draws, it must not draw from the forward's numbers
                again = other.variant.function(*other.values(environment), *other.weights)
            return {recipe: relative_change(result, again[stream])}
        except RuntimeError as error:
            message = f"the shadow run of {running.block} at {recipe} failed and is left out: {error}"
            warnings.warn(message, PrecisionFallbackWarning, stacklevel=2)
            return {}
        finally:
            if running.block not in self._keep_masters and not running.needs_masters:
                self._let_go_of_masters(running.block)

    def _let_go_of_masters(self, block: str) -> None:
        """Of a block that was at 16 bits for a shadow run only."""
        needless = [entry for entry, bound in self._kept.items() if bound.block == block and bound.needs_masters]
        for entry in needless:
            del self._kept[entry]
        self._pool.release_masters(block)


def _getter(slots: list[int]) -> Callable[[Sequence[object]], Sequence[object]]:
    if len(slots) > 1:
        return itemgetter(*slots)
    return lambda environment: [environment[slot] for slot in slots]

"""Dispatcher: runs the pieces of a captured graph, each in the variant that the order names."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Generic

import torch

from tadp.errors import PrecisionFallbackWarning
from tadp.precision import L16, MASTER, W8A16, Plan, Recipe
from tadp.runtime.explanation import ExplainedLayer
from tadp.runtime.order import Order
from tadp.runtime.pieces import PieceCompiler, PieceT, RunnablePartition, Sizes, Variant, layer_in_block
from tadp.runtime.pool import RESTORED, NoRoomError, WeightPool
from tadp.runtime.signals import BlockSignals, read, relative_change

MOST_SIZES = 64
"""Shapes for which bindings are kept; then all are made anew."""

NO_ROOM = "the device has no room for its 16-bit weights"


@dataclass(frozen=True)
class _Names:
    """What the layers of a captured graph are called where it runs, which may be another block or another layer.

    Attributes:
        block: where it runs.
        captured: the block that it was captured from; None outside of blocks.
        known: by the name that a layer was captured under, the layer that its weight belongs to.
    """

    block: str
    captured: str | None
    known: Mapping[str, str]

    def of(self, layer: str) -> str:
        """The own name of a layer of the graph."""
        return self.known.get(layer) or layer_in_block(layer, self.captured, self.block)


@dataclass(frozen=True)
class _Bound:
    """A variant together with the weights of one block."""

    names: _Names
    variant: Variant
    values: Callable[[Sequence[object]], Sequence[object]]
    weights: tuple[torch.Tensor, ...]
    key: object  # the block's first weight: kept alive, for its id stands for the block
    versions: tuple[tuple[torch.Tensor, int], ...]  # of weights that the model keeps and may change in place

    def is_stale(self) -> bool:
        """Whether a weight was changed in place since its planes were packed."""
        return any(weight._version != version for weight, version in self.versions)

    def named(self, values: Sequence[torch.Tensor]) -> list[tuple[str, str, torch.Tensor]]:
        """Signal, layer in this block, and value of every reading."""
        rows = zip(self.variant.readings, values, strict=True)
        return [(signal, self.names.of(layer) if layer else "", value) for (signal, layer), value in rows]

    @property
    def block(self) -> str:
        return self.names.block

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
    """Runs one captured graph by an order, which holds until the next one.

    Blocks are told apart by their first weight, not by their place in the graph: where a model's code runs the same
    captured graph for several blocks, each still follows its own recipe. Where sizes of the graph are open, variants
    are bound for each of their values: what the compiler took for granted of them is checked then.
    """

    def __init__(
        self,
        partition: RunnablePartition[PieceT],
        pool: WeightPool,
        variants: PieceCompiler[PieceT],
        order: Order,
    ) -> None:
        self.partition = partition
        self._pool = pool
        self._variants = variants
        self._order = order
        self._measured: list[_Measured] = []
        self._served: dict[tuple[str, str], tuple[PieceT, _Names, int]] = {}
        self._kept: dict[tuple[str, int, Recipe, bool, int], _Bound] = {}
        self._no_room: set[str] = set()
        self._symbols = tuple(dict.fromkeys(slot for piece in partition.pieces for slot in piece.symbols))
        self._sizes: Sizes = ()
        self._ran: dict[tuple[str, int], Sizes] = {}
        self._last: Order | None = None
        self._by_sizes: dict[Sizes, list[dict[int, _Bound]]] = {}
        self._current = self._bound_for(())

    def follow(self, order: Order) -> None:
        """Run the next forward by this order. Compiles nothing, maps nothing.

        What a failed forward measured is forgotten. Where other variants run from here on, blocks that the order does
        not keep masters of let go of them.
        """
        self._measured = []
        before, self._order = self._order, order
        if order.same_variants(before):
            return
        keeps = order.keeps_masters
        self._kept = {
            key: bound for key, bound in self._kept.items() if not bound.needs_masters or bound.block in keeps
        }
        self._by_sizes = {}
        self._current = self._bound_for(self._sizes)
        self._pool.keep_masters(keeps)

    def forget_weights(self) -> None:
        """Bind everything anew at the next forward."""
        self._kept, self._by_sizes = {}, {}
        self._current = self._bound_for(self._sizes)

    @property
    def ran_last(self) -> bool:
        """Whether anything ran here by the order that holds now."""
        return self._last is self._order

    def ran(self, plan: Plan) -> Plan:
        """A plan that was executed, with what blocks ran at whose 16-bit weights found no room."""
        recipes = ((block, recipe.without_masters if block in self._no_room else recipe) for block, recipe in plan)
        return Plan(tuple(recipes), plan.reasons) if self._no_room else plan

    def take_measured(self) -> list[BlockSignals]:
        """What probing variants measured since the order was given or this was last called; waits for the device."""
        measured, self._measured = self._measured, []
        return [read(found.bound.block, found.bound.named(found.readings), found.shadows) for found in measured]

    def layers(self, plan: Plan) -> Iterator[ExplainedLayer]:
        """The layers of every block that was run so far, as a plan has them; pieces outside blocks have own names.

        Where sizes are open, they are those of the block's last run.
        """
        recipes = dict(plan.recipes)
        for piece, names, key in self._served.values():
            why = plan.why(names.block)
            recipe = recipes.get(names.block, Recipe())
            reuse = "" if recipe.reuse is None else str(recipe.reuse)
            lowered = names.block in self._no_room and recipe.has(L16)
            runs = recipe.running.without_masters if lowered else recipe.running
            for row in self._variants.layers(piece, runs, self._ran.get((piece.name, key), ())):
                layer = names.of(row.layer)
                reason = row.reason or (NO_ROOM if lowered and row.level == W8A16 else "")
                if not reason and row.level == L16 and row.shape is not None and self._pool.is_restored(layer):
                    reason = RESTORED
                yield replace(row, piece=names.block, layer=layer, reason=reason, why=why, reuse=reuse)

    def __call__(self, *arguments: object) -> object:
        """Run all pieces on the captured graph's inputs."""
        environment: list[object] = [*arguments, *[None] * (self.partition.slots - len(arguments))]
        self._last = self._order
        if self._symbols:
            self._enter(arguments)
        for piece, current in zip(self.partition.pieces, self._current, strict=True):
            key = None if piece.weight is None else environment[piece.weight]
            bound = current.get(id(key))
            if bound is None or (bound.versions and bound.is_stale()):
                bound = current[id(key)] = self._bind(piece, key, environment)
            if piece.symbols:
                self._ran[piece.name, id(key)] = _sizes_of(piece, environment)
            self._pool.bring(bound.block, bound.weights)
            results = bound.variant.function(*bound.values(environment), *bound.weights)
            for slot, value in zip(piece.outputs, results, strict=False):
                environment[slot] = value
            if bound.variant.readings:
                shadows = self._run_shadow(piece, bound, environment, results) if self._order.shadows else {}
                self._measured.append(_Measured(bound, results[len(piece.outputs) :], shadows))
            for slot in piece.dead:
                environment[slot] = None
        return self.partition.collect(environment)

    def _enter(self, arguments: Sequence[object]) -> None:
        """Look up what is bound for the sizes of a call."""
        sizes = tuple([int(arguments[slot]) for slot in self._symbols])  # type: ignore[call-overload]
        if sizes != self._sizes:
            self._sizes, self._current = sizes, self._bound_for(sizes)

    def _bound_for(self, sizes: Sizes) -> list[dict[int, _Bound]]:
        """By piece and block, what is bound for the open sizes of the whole graph."""
        if len(self._by_sizes) >= MOST_SIZES and sizes not in self._by_sizes:
            self._by_sizes = {}
        return self._by_sizes.setdefault(sizes, [{} for _ in self.partition.pieces])

    def _bind(self, piece: PieceT, key: object, environment: Sequence[object]) -> _Bound:
        block = self._pool.block_of(key) or piece.block
        names = self._names(piece, block, environment)
        self._served[names.block, self._pool.layer_of(key) or ""] = piece, names, id(key)
        recipe, probing = self._order.variant_of(block)
        self._variants.variant(
            piece, recipe, probing, _sizes_of(piece, environment)
        )  # what compiling needs is no matter of weights
        try:
            bound = self._bind_variant(piece, names, key, environment, recipe, probing)
        except (NoRoomError, torch.OutOfMemoryError):
            if block is None or recipe.without_masters == recipe:
                raise
        else:
            self._no_room.discard(names.block)
            return bound
        self._let_go_of_masters(block)
        if block not in self._no_room:
            self._no_room.add(block)
            warnings.warn(f"{block} runs at {W8A16}: {NO_ROOM}", PrecisionFallbackWarning, stacklevel=2)
        return self._bind_variant(piece, names, key, environment, recipe.without_masters, probing)

    def _names(self, piece: PieceT, block: str | None, environment: Sequence[object]) -> _Names:
        known = {layer: self._pool.layer_of(environment[slot]) for layer, slot in piece.layers}
        own = {layer: found for layer, found in known.items() if found is not None}
        return _Names(block or piece.name, piece.block, own)

    def _bind_variant(
        self,
        piece: PieceT,
        names: _Names,
        key: object,
        environment: Sequence[object],
        recipe: Recipe,
        probing: bool,
    ) -> _Bound:
        variant = self._variants.variant(piece, recipe, probing, _sizes_of(piece, environment))
        entry = (piece.name, id(key), recipe, probing, id(variant))  # which is kept alive with it
        if entry not in self._kept or self._kept[entry].is_stale():
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
            self._kept[entry] = _Bound(names, variant, values, tuple(weights), key, versions)
        return self._kept[entry]

    def _run_shadow(
        self, piece: PieceT, running: _Bound, environment: Sequence[object], results: Sequence[torch.Tensor]
    ) -> Mapping[Recipe, torch.Tensor]:
        """Run a piece once more at the recipe that its block is to be tried at, if any; error by recipe.

        A failure, such as one of memory, is not worth the forward: it costs the measurement, with a warning.
        """
        recipe, stream = self._order.shadows.get(running.block), running.variant.stream
        if recipe is None or stream is None:
            return {}
        if not self._variants.is_compiled(piece, recipe, _sizes_of(piece, environment)):
            return {}
        result = results[stream]
        try:
            other = self._bind_variant(piece, running.names, running.key, environment, recipe, probing=False)
            devices = [result.device] if result.is_cuda else []
            with torch.random.fork_rng(devices):  # whatever a block draws, it must not draw from the forward's numbers
                self._pool.bring(other.block, other.weights)
                again = other.variant.function(*other.values(environment), *other.weights)
            return {recipe: relative_change(result, again[stream])}
        except RuntimeError as error:
            message = f"the shadow run of {running.block} at {recipe} failed and is left out: {error}"
            warnings.warn(message, PrecisionFallbackWarning, stacklevel=2)
            return {}
        finally:
            if running.block not in self._order.keeps_masters and not running.needs_masters:
                self._let_go_of_masters(running.block)

    def _let_go_of_masters(self, block: str) -> None:
        """Of a block that was at 16 bits for a shadow run only."""
        needless = [entry for entry, bound in self._kept.items() if bound.block == block and bound.needs_masters]
        for entry in needless:
            del self._kept[entry]
        self._pool.release_masters(block)


def _sizes_of(piece: PieceT, environment: Sequence[object]) -> Sizes:
    """The values of a piece's open sizes."""
    return tuple([int(environment[slot]) for slot in piece.symbols])  # type: ignore[call-overload]


def _getter(slots: list[int]) -> Callable[[Sequence[object]], Sequence[object]]:
    if len(slots) > 1:
        return itemgetter(*slots)
    return lambda environment: [environment[slot] for slot in slots]

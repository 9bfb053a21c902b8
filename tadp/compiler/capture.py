"""What torch.compile hands its graphs to: they are cut into pieces, and every structure gets its variants."""

import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import fx
from tqdm import tqdm

from tadp import passes
from tadp.errors import PrecisionFallbackWarning
from tadp.families.family import Family
from tadp.families.generic import GENERIC
from tadp.kernels.table import lookup
from tadp.passes.annotate import module_path
from tadp.passes.decision import Decision
from tadp.passes.operations import EXAMPLE, is_linear
from tadp.passes.partition import Partition, Piece
from tadp.policy import Policy, Seen
from tadp.precision import ITSELF, L16, Plan, Recipe, Role
from tadp.runtime import signals
from tadp.runtime.controller import Controller
from tadp.runtime.dispatcher import Dispatcher, Variant
from tadp.runtime.explanation import Explanation
from tadp.runtime.pool import WeightPool

MEASURES = passes.Measures(
    attention=signals.attention_entropy,
    moments=signals.activation_moments,
    rounding=signals.quantization_error,
    change=signals.relative_change,
)


class Capture:
    """A torch.compile backend that cuts graphs into pieces and keeps the variants of every structure."""

    def __init__(
        self,
        pool: WeightPool,
        precompile: bool,
        options: dict[str, object],
        family: Family = GENERIC,
        stays_at_16: Mapping[str, str] | None = None,
    ) -> None:
        self._pool = pool
        self._precompile = precompile
        self._options = options
        self._family, self._stays_at_16 = family, stays_at_16 or {}
        self._variants: dict[tuple[str, Recipe, bool], Variant] = {}
        self._decisions: dict[tuple[str, str, Recipe], tuple[Decision, ...]] = {}
        self._partitions: list[Partition] = []
        self._dispatchers: list[Dispatcher[Piece]] = []
        self._blocks: frozenset[str] | None = None
        self._warned: set[str] = set()
        self._controller: weakref.ref[Controller]

    def control(
        self,
        policy: str | Policy,
        blocks: tuple[str, ...] | None,
        outside: Mapping[str, torch.Tensor] | None = None,
        other_weight_bytes: int = 0,
        mapped: Sequence[tuple[str, signals.HasBlockMap]] = (),
    ) -> Controller:
        """Make the controller that chooses among these variants.

        Args:
            policy: what the controller follows first.
            blocks: the model's blocks in running order; None: find them in the graphs.
            outside: weights of linear layers outside the blocks, by layer, for the explanation.
            other_weight_bytes: of everything that is not packed.
            mapped: attention modules that show a block map, each with its block's path.
        """
        self._blocks = None if blocks is None else frozenset(blocks)
        self._outside = {layer: tuple(weight.shape) for layer, weight in (outside or {}).items()}
        controller = Controller(
            policy,
            self._pool,
            prepare=lambda chosen: self._prepare(self._partitions, chosen) if self._precompile else None,
            explain=self._explain,
            blocks=blocks or (),
            other_weight_bytes=other_weight_bytes,
            mapped=mapped,
        )
        self._controller = weakref.ref(controller)
        return controller

    def __call__(self, graph: fx.GraphModule, example_inputs: Sequence[object]) -> Callable[..., object]:
        """What Dynamo calls with every graph it has traced."""
        normal = passes.normalize(graph)
        annotated = passes.annotate(
            normal, self._prefix(normal), self._blocks, self._family, self._stays_at_16, self._layer_of
        )
        found = passes.partition(annotated)
        self._partitions.append(found)
        dispatcher = Dispatcher(found, self._pool, self.variant, self._is_compiled)
        self._dispatchers.append(dispatcher)
        controller = self._controller()
        assert controller is not None  # whoever calls the model holds it
        controller.attach(dispatcher, [piece.block for piece in found.pieces if piece.block])
        if self._precompile:
            self._prepare([found], controller.policy)
        return weakly(dispatcher)

    def variant(self, piece: Piece, recipe: Recipe, probing: bool) -> Variant:
        """The variant of a piece's structure, compiled where it is asked for the first time."""
        key = (piece.structure, recipe, probing)
        if key not in self._variants:
            quantized = passes.quantize(piece.graph, recipe, lookup)
            probed = passes.probe(quantized.graph, MEASURES) if probing else passes.Probed(quantized.graph, (), None)
            self._variants[key] = Variant(
                function=passes.lower(quantized.graph, _device(piece.graph), self._options),
                values=tuple(source.index for source in quantized.sources if source.part == ITSELF),
                weights=tuple((s.index, s.part) for s in quantized.sources if s.part != ITSELF),
                readings=tuple((reading.kind, reading.layer) for reading in probed.readings),
                stream=probed.stream,
            )
        return self._variants[key]

    def _is_compiled(self, piece: Piece, recipe: Recipe) -> bool:
        return (piece.structure, recipe, False) in self._variants

    def _prepare(self, partitions: Iterable[Partition], policy: Policy) -> None:
        """Compile every variant that a policy may ask for, and warn of what cannot follow it."""
        probed = {recipe for _, recipe in policy.plan(Seen(self._known_blocks())) if recipe != Recipe()}
        wanted: dict[tuple[str, Recipe, bool], Piece] = {}
        for piece in (piece for partition in partitions for piece in partition.pieces):
            recipes = policy.recipes() if piece.block else (Recipe(),)
            for recipe in recipes:
                wanted.setdefault((piece.structure, recipe, False), piece)
                self._warn_of_fallbacks(piece, recipe)
            for recipe in probed if piece.block and policy.probe_steps else ():
                wanted.setdefault((piece.structure, recipe, True), piece)
        missing = [(piece, key) for key, piece in wanted.items() if key not in self._variants]
        for piece, (_, recipe, probing) in tqdm(
            missing, desc="compiling variants", unit="variant", disable=not missing
        ):
            self.variant(piece, recipe, probing)

    def _warn_of_fallbacks(self, piece: Piece, recipe: Recipe) -> None:
        for decision in self._decide(piece, recipe):
            if decision.reason and piece.block and decision.layer not in self._warned:
                self._warned.add(decision.layer)
                message = f"{decision.layer} stays at 16 bits: {decision.reason}"
                warnings.warn(message, PrecisionFallbackWarning, stacklevel=2)

    def _decide(self, piece: Piece, recipe: Recipe) -> tuple[Decision, ...]:
        key = (piece.name, piece.structure, recipe)
        if key not in self._decisions:
            self._decisions[key] = passes.quantize(piece.graph, recipe, lookup).decisions
        return self._decisions[key]

    def _explain(self, plan: Plan) -> Explanation:
        recipes = dict(plan.recipes)
        rows = [
            _row("outside", "", Decision(layer, None, L16, shape, "outside the blocks"), "eager", "")
            for layer, shape in self._outside.items()
        ]
        shown: set[tuple[str, Role | None]] = set()  # a layer that was captured at several shapes stands once
        for dispatcher in self._dispatchers:
            for block, piece in dispatcher.served():
                for decision in self._decide(piece, recipes.get(block, Recipe())):
                    named = replace(decision, layer=_renamed(decision.layer, piece.block, block))
                    if (named.layer, named.role) not in shown:
                        shown.add((named.layer, named.role))
                        rows.append(_row(block, piece.structure, named, decision.kernel, plan.why(block)))
        if self._dispatchers:
            seen = {layer for layer, _ in shown}
            for block, layer, shape in self._pool.layers():
                if layer not in seen:
                    decision = Decision(layer, None, L16, shape, "not captured: uncompiled code runs it at 16 bits")
                    rows.append(_row(block, "", decision, "eager", ""))
        order = {block: index for index, block in enumerate(self._known_blocks())}
        return Explanation(tuple(sorted(rows, key=lambda row: order.get(str(row["piece"]), len(order)))))

    def _known_blocks(self) -> tuple[str, ...]:
        controller = self._controller()
        return controller.blocks if controller is not None else ()

    def _prefix(self, graph: fx.GraphModule) -> str:
        """Path of the module that a graph was captured from, told from where the pool knows its weights to belong.

        After a graph break inside a block, Dynamo captures inner functions by themselves, and names in their graphs
        begin at any submodule: only the weights tell where that lies.
        """
        for node in filter(is_linear, graph.graph.nodes):
            layer = self._layer_of(node.args[1])
            path = module_path(node)
            if layer is not None and layer.endswith(path):
                return layer[: len(layer) - len(path)].rstrip(".")
        return ""

    def _layer_of(self, weight: object) -> str | None:
        """The layer that a weight among a graph's inputs belongs to."""
        argument = weight.meta.get("grapharg") if isinstance(weight, fx.Node) else None
        return None if argument is None else self._pool.layer_of(argument.example)


def weakly(function: Callable[..., object]) -> Callable[..., object]:
    """A function that PyTorch may keep in its global caches without keeping a model's weights alive with it."""
    reference = weakref.ref(function)

    def call(*arguments: object, **options: object) -> object:
        target = reference()
        assert target is not None  # owned by the model's controller, and only the model leads here
        return target(*arguments, **options)

    return call


def _row(piece: str, structure: str, decision: Decision, kernel: str, why: str) -> dict[str, object]:
    return {
        "piece": piece,
        "structure": structure,
        "role": str(decision.role or ""),
        "layer": decision.layer,
        "level": str(decision.level),
        "kernel": kernel,
        "bytes": decision.weight_bytes,
        "tokens": decision.tokens,
        "shape": decision.shape,
        "nonlinearity": decision.nonlinearity,
        "biased": decision.biased,
        "reason": decision.reason,
        "why": why,
    }


def _renamed(layer: str, captured: str | None, block: str) -> str:
    """A layer's path in one block, from its path in the block that the graph was captured from."""
    return block + layer[len(captured) :] if captured and layer.startswith(captured) else layer


def _device(graph: fx.GraphModule) -> torch.device:
    for node in graph.graph.find_nodes(op="placeholder"):
        example = node.meta.get(EXAMPLE)
        if isinstance(example, torch.Tensor) and example.device.type not in ("cpu", "meta"):
            return example.device
    return torch.device("cpu")

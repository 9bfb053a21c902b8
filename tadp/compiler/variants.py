"""Variants: what each piece runs as, and what was decided for it."""

import copy
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import fx
from torch._inductor.exc import InductorError
from tqdm import tqdm

from tadp import passes
from tadp.compiler.first_calls import compile_before_first_calls
from tadp.errors import PrecisionFallbackWarning
from tadp.kernels import failures
from tadp.kernels.registry import architecture_of
from tadp.kernels.table import lookup
from tadp.passes.annotate import ADAPTER, annotation
from tadp.passes.decision import Decision, has_level
from tadp.passes.operations import EXAMPLE
from tadp.passes.partition import Piece
from tadp.passes.quantize import Quantized
from tadp.precision import ITSELF, L16, Recipe
from tadp.runtime.explanation import ExplainedLayer
from tadp.runtime.pieces import Variant
from tadp.runtime.signals import At, signals_at


class Variants:
    """Knows for each piece, recipe and whether to probe the compiled code, and the decisions behind it.

    Pieces of one structure share both. Code and decisions come from one run of the quantize pass; its graphs are not
    kept.
    """

    def __init__(self, options: Mapping[str, object], precompile: bool = True) -> None:
        """Variants are compiled with Inductor's `options`; with `precompile`, all that a policy may choose at once."""
        self._options = dict(options)
        self._precompile = precompile
        self._compiled: dict[tuple[str, Recipe, bool], Variant] = {}
        self._decisions: dict[tuple[str, Recipe], tuple[Decision, ...]] = {}
        self._checked: set[tuple[str, str, Recipe]] = set()
        self._warned: set[str] = set()
        self._uncompilable: set[str] = set()

    def variant(self, piece: Piece, recipe: Recipe, probing: bool) -> Variant:
        """The variant of a piece's structure, compiled where it is asked for the first time."""
        key = (piece.structure, recipe, probing)
        if key not in self._compiled:
            self._compile(piece, recipe, probing, self._quantize(piece, recipe))
        return self._compiled[key]

    def is_compiled(self, piece: Piece, recipe: Recipe) -> bool:
        """Whether the variant that does not probe is there."""
        return (piece.structure, recipe, False) in self._compiled

    def layers(self, piece: Piece, recipe: Recipe) -> tuple[ExplainedLayer, ...]:
        """What became of each layer of a piece at a recipe."""
        return tuple(
            ExplainedLayer(
                piece=piece.name,
                structure=piece.structure,
                role=decision.role,
                layer=decision.layer,
                level=decision.level,
                kernel=decision.kernel,
                bytes=decision.weight_bytes,
                tokens=decision.tokens,
                shape=decision.shape,
                nonlinearity=decision.nonlinearity,
                biased=decision.biased,
                packing=decision.packing,
                reason=decision.reason or _failure(decision.kernel, _device(piece.graph)),
            )
            for decision in self._decisions_of(piece, recipe)
        )

    def prepare(self, pieces: Iterable[Piece], recipes: Collection[Recipe], probed: Collection[Recipe]) -> None:
        """Compile every variant that may be asked for and the kernels it calls, and warn of layers that cannot follow.

        Args:
            pieces: those of blocks may run at any recipe, the others run at 16 bits.
            recipes: what blocks may run at.
            probed: what blocks are measured at.
        """
        if not self._precompile:
            return
        quantized: dict[tuple[str, Recipe], Quantized] = {}
        missing: dict[tuple[str, Recipe, bool], Piece] = {}
        for piece in pieces:
            wanted = [(recipe, False) for recipe in recipes] if piece.block else [(Recipe(), False)]
            wanted += [(recipe, True) for recipe in probed if piece.block]
            for recipe, probing in wanted:
                if (piece.structure, recipe, probing) not in self._compiled:
                    missing.setdefault((piece.structure, recipe, probing), piece)
                    if (piece.structure, recipe) not in quantized:
                        quantized[piece.structure, recipe] = self._quantize(piece, recipe)
                if not probing:
                    self._warn_of_fallbacks(piece, recipe)
        for device in dict.fromkeys(_device(piece.graph) for piece in missing.values()):
            graphs = [
                (piece.name, quantized[structure, recipe].graph)
                for (structure, recipe, probing), piece in missing.items()
                if not probing and _device(piece.graph) == device
            ]
            compile_before_first_calls(graphs, device)
        progress = tqdm(missing.items(), desc="compiling variants", unit="variant", disable=not missing)
        for (structure, recipe, probing), piece in progress:
            self._compile(piece, recipe, probing, quantized[structure, recipe])

    def _quantize(self, piece: Piece, recipe: Recipe) -> Quantized:
        """Run the quantize pass on a piece and keep what it decides."""
        quantized = passes.quantize(piece.graph, recipe, lookup)
        self._decisions[piece.structure, recipe] = quantized.decisions
        return quantized

    def _compile(self, piece: Piece, recipe: Recipe, probing: bool, quantized: Quantized) -> None:
        # A copy: the probe pass and Inductor both write into a graph that another variant is compiled from.
        graph = fx.GraphModule(quantized.graph, copy.deepcopy(quantized.graph.graph))
        probed = passes.probe(graph, _measures()) if probing else passes.Probed(graph, (), None)
        self._compiled[piece.structure, recipe, probing] = Variant(
            function=self._lower(piece, probed.graph),
            values=tuple(source.index for source in quantized.sources if source.part == ITSELF),
            weights=tuple((s.index, s.part) for s in quantized.sources if s.part != ITSELF),
            readings=tuple((reading.signal, reading.layer) for reading in probed.readings),
            stream=probed.stream,
        )

    def _lower(self, piece: Piece, graph: fx.GraphModule) -> Callable[..., Sequence[torch.Tensor]]:
        """Compile a graph; what Inductor cannot compile runs as it is, at the same levels, and a warning says so."""
        try:
            return passes.lower(graph, _device(piece.graph), self._options)
        except InductorError as error:
            if piece.structure not in self._uncompilable:
                self._uncompilable.add(piece.structure)
                reason = str(error).strip().splitlines()[0]
                message = f"{piece.name} runs uncompiled, more slowly: Inductor cannot compile it ({reason})"
                warnings.warn(message, PrecisionFallbackWarning, stacklevel=2)
            return graph.forward

    def _decisions_of(self, piece: Piece, recipe: Recipe) -> tuple[Decision, ...]:
        """The decisions for a structure, under the names of one of its pieces."""
        if (piece.structure, recipe) not in self._decisions:
            self._quantize(piece, recipe)
        layers = [annotation(node).layer or node.name for node in piece.graph.graph.nodes if has_level(node)]
        decisions = self._decisions[piece.structure, recipe]
        return tuple(replace(decision, layer=layer) for decision, layer in zip(decisions, layers, strict=True))

    def _warn_of_fallbacks(self, piece: Piece, recipe: Recipe) -> None:
        place = (piece.name, piece.structure, recipe)
        if place in self._checked:
            return
        self._checked.add(place)
        for decision in self._decisions_of(piece, recipe):
            stays = decision.reason and decision.level == L16
            if stays and decision.reason != ADAPTER and piece.block and decision.layer not in self._warned:
                self._warned.add(decision.layer)
                message = f"{decision.layer} stays at 16 bits: {decision.reason}"
                warnings.warn(message, PrecisionFallbackWarning, stacklevel=2)


def _measures() -> passes.Measures:
    """What a probe measures inside a piece, as the signals are declared."""
    inside = {at: {signal.name: signal.measure for signal in signals_at(at)} for at in At}
    return passes.Measures(inside[At.ATTENTION], inside[At.LINEAR_INPUT], inside[At.BLOCK])


def _failure(kernel: str, device: torch.device) -> str:
    """That a kernel failed and does not run, with the error; "" where it runs."""
    reason = failures.failure_of(kernel, architecture_of(device)) if failures.have_been() else None
    return "" if reason is None else f"{kernel} failed and another one runs in its place: {reason}"


def _device(graph: fx.GraphModule) -> torch.device:
    for node in graph.graph.find_nodes(op="placeholder"):
        example = node.meta.get(EXAMPLE)
        if isinstance(example, torch.Tensor) and example.device.type not in ("cpu", "meta"):
            return example.device
    return torch.device("cpu")

"""Variants: what each piece runs as, and what was decided for it."""

import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import fx
from tqdm import tqdm

from tadp import passes
from tadp.compiler.compiling import Made, make
from tadp.compiler.first_calls import compile_before_first_calls
from tadp.errors import PrecisionFallbackWarning
from tadp.kernels import failures
from tadp.kernels.registry import any_compiles_at_first, architecture_of
from tadp.kernels.table import lookup
from tadp.passes.annotate import ADAPTER, annotation
from tadp.passes.decision import Decision, has_level
from tadp.passes.operations import EXAMPLE
from tadp.passes.partition import Piece
from tadp.passes.quantize import Quantized
from tadp.precision import L16, Recipe
from tadp.runtime.explanation import ExplainedLayer
from tadp.runtime.pieces import Sizes, Variant

MOST_SIZES = 32
"""Shapes of a structure that are remembered, the latest: what is known of another is found out anew."""


@dataclass(frozen=True)
class _Wanted:
    """A variant that may be asked for: of a structure, at a recipe, with or without measuring."""

    structure: str
    recipe: Recipe
    probing: bool


class Variants:
    """Knows for each piece, recipe and whether to probe the compiled code, and the decisions behind it.

    Pieces of one structure share both. Code and decisions come from one run of the quantize pass; its graphs are not
    kept.

    A piece whose sizes are open has code that runs at all of them. It is compiled anew where that does not hold for
    some: where a level depends on the number of tokens, as with sparse attention, or where the compiler took for
    granted what sizes met later do not keep, of which a warning tells.
    """

    def __init__(self, options: Mapping[str, object], precompile: bool = True) -> None:
        """Variants are compiled with Inductor's `options`; with `precompile`, all that a policy may choose at once."""
        self._options = dict(options)
        self._precompile = precompile
        self._made: dict[_Wanted, list[Made]] = {}
        self._fitting: dict[tuple[_Wanted, Sizes], Made] = {}
        self._decisions: dict[tuple[str, Recipe, Sizes], tuple[Decision, ...]] = {}
        self._met: dict[str, dict[Sizes, None]] = {}
        self._checked: set[tuple[str, str, Recipe, Sizes]] = set()
        self._warned: set[str] = set()

    def variant(self, piece: Piece, recipe: Recipe, probing: bool, sizes: Sizes = ()) -> Variant:
        """The variant of a piece's structure that holds for some sizes, compiled where there is none."""
        wanted = _Wanted(piece.structure, recipe, probing)
        self._meet(piece, sizes)
        found = self._find(piece, wanted, sizes)
        return (found or self._compile(piece, wanted, sizes, self._quantize(piece, recipe, sizes))).variant

    def is_compiled(self, piece: Piece, recipe: Recipe, sizes: Sizes = ()) -> bool:
        """Whether the variant that does not probe is there."""
        return self._find(piece, _Wanted(piece.structure, recipe, False), sizes) is not None

    def layers(self, piece: Piece, recipe: Recipe, sizes: Sizes = ()) -> tuple[ExplainedLayer, ...]:
        """What became of each layer of a piece at a recipe, at some sizes."""
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
            for decision in self._decisions_of(piece, recipe, sizes)
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
        wanted: dict[tuple[_Wanted, Sizes], Piece] = {}
        for piece in pieces:
            asked = [(recipe, False) for recipe in recipes] if piece.block else [(Recipe(), False)]
            asked += [(recipe, True) for recipe in probed if piece.block]
            self._remember(piece.structure, passes.sizes_of(piece.graph))
            for sizes in self._met[piece.structure]:
                for recipe, probing in asked:
                    wanted.setdefault((_Wanted(piece.structure, recipe, probing), sizes), piece)
                    if not probing:
                        self._warn_of_fallbacks(piece, recipe, sizes)
        self._compile_all(wanted)

    def _meet(self, piece: Piece, sizes: Sizes) -> None:
        """Get ready for sizes that a structure has not had yet: with luck, nothing is to be compiled for them."""
        if not self._remember(piece.structure, sizes) or not self._precompile:
            return
        known = [wanted for wanted in self._made if wanted.structure == piece.structure]
        for wanted in known:
            if not wanted.probing:
                self._warn_of_fallbacks(piece, wanted.recipe, sizes)
        self._compile_all({(wanted, sizes): piece for wanted in known}, kernels_of_all=True)

    def _remember(self, structure: str, sizes: Sizes) -> bool:
        """Note that a structure has sizes; whether that is new."""
        met = self._met.setdefault(structure, {})
        if sizes in met:
            return False
        met[sizes] = None
        if len(met) > MOST_SIZES:
            oldest = next(iter(met))
            del met[oldest]
            self._fitting = {
                key: made for key, made in self._fitting.items() if (key[0].structure, key[1]) != (structure, oldest)
            }
            self._decisions = {
                key: found for key, found in self._decisions.items() if (key[0], key[2]) != (structure, oldest)
            }
            self._checked = {key for key in self._checked if (key[1], key[3]) != (structure, oldest)}
        return True

    def _compile_all(self, wanted: Mapping[tuple[_Wanted, Sizes], Piece], kernels_of_all: bool = False) -> None:
        """Compile the variants that are missing, and what their kernels launch, or those of all that are wanted."""
        missing = [(key, piece) for key, piece in wanted.items() if self._find(piece, *key) is None]
        quantized: dict[tuple[str, Recipe, Sizes], Quantized] = {}
        for (one, sizes), piece in wanted.items() if kernels_of_all and _compiles_kernels(wanted) else missing:
            if (one.structure, one.recipe, sizes) not in quantized:
                quantized[one.structure, one.recipe, sizes] = self._quantize(piece, one.recipe, sizes)
        for device in dict.fromkeys(_device(piece.graph) for piece in wanted.values()):
            graphs = [
                (piece.name, quantized[one.structure, one.recipe, sizes].graph)
                for (one, sizes), piece in wanted.items()
                if not one.probing
                and (one.structure, one.recipe, sizes) in quantized
                and _device(piece.graph) == device
            ]
            if graphs:
                compile_before_first_calls(graphs, device)
        progress = tqdm(missing, desc="compiling variants", unit="variant", disable=not missing)
        for (one, sizes), piece in progress:
            if self._find(piece, one, sizes) is None:  # else one for other sizes, compiled meanwhile, holds
                self._compile(piece, one, sizes, quantized[one.structure, one.recipe, sizes])

    def _find(self, piece: Piece, wanted: _Wanted, sizes: Sizes) -> Made | None:
        """The newest of the variants that hold for some sizes, if there is one."""
        found = self._fitting.get((wanted, sizes))
        if found is not None or wanted not in self._made:
            return found
        decisions = self._decisions_of(piece, wanted.recipe, sizes)
        for made in reversed(self._made[wanted]):
            if made.broken_by(sizes) is None and _levels(made.decisions) == _levels(decisions):
                self._fitting[wanted, sizes] = made
                return made
        return None

    def _quantize(self, piece: Piece, recipe: Recipe, sizes: Sizes) -> Quantized:
        """Run the quantize pass on a piece at some sizes and keep what it decides."""
        own = sizes in ((), passes.sizes_of(piece.graph))
        quantized = passes.quantize(piece.graph if own else passes.at_sizes(piece.graph, sizes), recipe, lookup)
        self._decisions[piece.structure, recipe, sizes] = quantized.decisions
        return quantized

    def _compile(self, piece: Piece, wanted: _Wanted, sizes: Sizes, quantized: Quantized) -> Made:
        before = self._made.setdefault(wanted, [])
        alike = [made for made in before if _levels(made.decisions) == _levels(quantized.decisions)]
        fixed = any(made.only is not None for made in alike)  # that has been warned of
        if alike and not fixed:
            reason = alike[-1].broken_by(sizes)
            self._warn(f"{piece.name} is compiled anew for other sizes: its code holds only where {reason}")
        where = piece.name, _device(piece.graph)
        made = make(quantized, sizes, wanted.probing, *where, self._options, self._warn, fixed)
        before.append(made)
        self._fitting[wanted, sizes] = made
        return made

    def _decisions_of(self, piece: Piece, recipe: Recipe, sizes: Sizes) -> tuple[Decision, ...]:
        """The decisions for a structure, under the names of one of its pieces."""
        if (piece.structure, recipe, sizes) not in self._decisions:
            self._quantize(piece, recipe, sizes)
        layers = [annotation(node).layer or node.name for node in piece.graph.graph.nodes if has_level(node)]
        decisions = self._decisions[piece.structure, recipe, sizes]
        return tuple(replace(decision, layer=layer) for decision, layer in zip(decisions, layers, strict=True))

    def _warn_of_fallbacks(self, piece: Piece, recipe: Recipe, sizes: Sizes) -> None:
        place = (piece.name, piece.structure, recipe, sizes)
        if place in self._checked:
            return
        self._checked.add(place)
        for decision in self._decisions_of(piece, recipe, sizes):
            stays = decision.reason and decision.level == L16
            if stays and decision.reason != ADAPTER and piece.block and decision.layer not in self._warned:
                self._warned.add(decision.layer)
                self._warn(f"{decision.layer} stays at 16 bits: {decision.reason}")

    def _warn(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, PrecisionFallbackWarning, stacklevel=3)


def _levels(decisions: Iterable[Decision]) -> list[tuple[object, ...]]:
    """What of decisions is written into a graph: where it differs, code for one does not do what the other says."""
    return [(decision.level, decision.packing) for decision in decisions]


def _compiles_kernels(wanted: Mapping[tuple[_Wanted, Sizes], Piece]) -> bool:
    """Whether kernels may have to be compiled for sizes though variants are there."""
    return any(any_compiles_at_first(_device(piece.graph).type) for piece in wanted.values())


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

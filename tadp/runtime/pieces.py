"""Pieces as the runtime sees them: what it needs to know of a piece, of a partition, and of what compiles pieces.

`tadp.passes.partition` makes pieces and partitions, `tadp.compiler.variants` compiles them.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from tadp.precision import Part, Recipe
from tadp.runtime.explanation import ExplainedLayer

Sizes = tuple[int, ...]
"""What the open sizes of a piece are in a call: none where all of its sizes are fixed."""


class RunnablePiece(Protocol):
    """A part of a captured graph; `tadp.passes.partition.Piece` says what each field means."""

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
    def layers(self) -> tuple[tuple[str, int], ...]: ...
    @property
    def weight(self) -> int | None: ...
    @property
    def symbols(self) -> tuple[int, ...]: ...


PieceT = TypeVar("PieceT", bound=RunnablePiece)
PieceT_co = TypeVar("PieceT_co", bound=RunnablePiece, covariant=True)
PieceT_contra = TypeVar("PieceT_contra", bound=RunnablePiece, contravariant=True)


class RunnablePartition(Protocol[PieceT_co]):
    """A captured graph, cut into pieces."""

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
        readings: signal and layer of every extra output; empty outside probes.
        stream: position of the output that shadow runs are compared by; None where there is none, and outside probes.
    """

    function: Callable[..., Sequence[torch.Tensor]]
    values: tuple[int, ...]
    weights: tuple[tuple[int, Part], ...]
    readings: tuple[tuple[str, str], ...] = ()
    stream: int | None = None


class PieceCompiler(Protocol[PieceT_contra]):
    """Knows the variants of every piece."""

    def variant(self, piece: PieceT_contra, recipe: Recipe, probing: bool, sizes: Sizes = ()) -> Variant:
        """The variant of a piece for a recipe, which also measures where it is `probing`.

        It holds for `sizes`, the values of the piece's symbols. Compiled where there is none yet.
        """

    def is_compiled(self, piece: PieceT_contra, recipe: Recipe, sizes: Sizes = ()) -> bool:
        """Whether the variant that does not measure is there already, and holds for these sizes."""

    def layers(self, piece: PieceT_contra, recipe: Recipe, sizes: Sizes = ()) -> Sequence[ExplainedLayer]:
        """What became of each layer of a piece at a recipe, under the names of the block that was captured."""

    def prepare(self, pieces: Iterable[PieceT_contra], recipes: Collection[Recipe], probed: Collection[Recipe]) -> None:
        """Get ready to run pieces at `recipes`, and to measure them at the recipes in `probed`."""


def layer_in_block(layer: str, captured: str | None, block: str) -> str:
    """A layer's path in one block, from its path in the block that was captured; None: captured outside of blocks."""
    return block + layer[len(captured) :] if captured and layer.startswith(captured) else layer

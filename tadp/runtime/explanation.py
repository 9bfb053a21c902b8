"""What a compiled model runs, layer by layer: a value for code, a table for people."""

import math
from dataclasses import dataclass

from tadp.precision import L16, Level, Role

COLUMNS = ("piece", "structure", "role", "layer", "level", "kernel", "bytes", "packing", "reason", "reuse", "why")
"""The fields of a layer that the table shows."""


@dataclass(frozen=True)
class ExplainedLayer:
    """One operation whose level may be chosen: a linear layer or an attention product.

    Attributes:
        piece: the block, or what lies before, between or after blocks; "outside" where nothing was captured.
        structure: hash of the piece's graph; "" for layers that were not captured.
        role: what the operation is in its block; None where that is not known.
        layer: path of its module.
        level: what it runs at.
        kernel: what runs it, unless `reason` says that it failed.
        bytes: of the weight that are read at this level.
        tokens: rows of the activation; None where the graph does not tell.
        shape: of the weight, ``(rows, columns)``; None for attention.
        nonlinearity: what the product applies, "none" for nothing.
        biased: whether it has a bias.
        packing: what was done to the weight before it was rounded, such as "rotated by 256"; "" for nothing.
        reason: why the level is not the one that the policy asked for, or the kernel not the one that was chosen; ""
            where they are.
        reuse: when the piece need not run, as it stands in the name of a recipe, or why it always does though it might
            be left to; "" where the policy does not ask for it.
        why: what the policy chose the piece's levels for; "" where it does not say.
    """

    piece: str
    structure: str
    role: Role | None
    layer: str
    level: Level
    kernel: str
    bytes: int
    tokens: int | None = None
    shape: tuple[int, ...] | None = None
    nonlinearity: str = "none"
    biased: bool = False
    packing: str = ""
    reason: str = ""
    reuse: str = ""
    why: str = ""


@dataclass(frozen=True)
class Explanation:
    """What `Controller.layers` returns, as `rows`; `str` prints them as a table with the columns `COLUMNS`."""

    rows: tuple[ExplainedLayer, ...]

    def __str__(self) -> str:
        if not self.rows:
            return "nothing is captured yet: pieces are known after the first forward"
        cells = [COLUMNS, *(_cells(row) for row in self.rows)]
        widths = [max(len(line[index]) for line in cells) for index in range(len(COLUMNS))]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
        return "\n".join(line.rstrip() for line in lines)


def uncompiled(piece: str, layer: str, shape: tuple[int, ...], reason: str, level: Level = L16) -> ExplainedLayer:
    """A linear layer that the model's own code runs, at 16 bits or packed."""
    size = math.prod(shape) * level.weight // 8
    return ExplainedLayer(piece, "", None, layer, level, "eager", size, shape=shape, reason=reason)


def _cells(row: ExplainedLayer) -> tuple[str, ...]:
    return tuple("" if (value := getattr(row, column)) is None else str(value) for column in COLUMNS)

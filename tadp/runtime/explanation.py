"""What a compiled model runs, piece by piece, as data and as a table."""

from collections.abc import Mapping
from dataclasses import dataclass

COLUMNS = ("piece", "structure", "role", "layer", "level", "kernel", "bytes", "reason", "why")


@dataclass(frozen=True)
class Explanation:
    """One row per operation whose level may be chosen, with the keys of `COLUMNS`; `str` prints them as a table.

    ``bytes`` are the weight bytes that the operation reads at its level; ``reason`` says why a level is not what the
    policy asked for, ``why`` what the policy chose the piece's levels for.
    """

    rows: tuple[Mapping[str, object], ...]

    def __str__(self) -> str:
        if not self.rows:
            return "nothing is captured yet: pieces are known after the first forward"
        cells = [COLUMNS, *(tuple(str(row[column]) for column in COLUMNS) for row in self.rows)]
        widths = [max(len(line[index]) for line in cells) for index in range(len(COLUMNS))]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
        return "\n".join(line.rstrip() for line in lines)

"""What a GPU needs at least for attention: its arithmetic at the peak rates, its bytes at the bandwidth."""

from typing import NamedTuple

from bench.kernels.floors import Peaks

SHAPES_TOKENS = (4096, 16384, 32760)
"""The last is a clip of 81 frames at 480p."""

SHAPES_HEADS = (12, 40)
"""Of Wan2.1-1.3B and Wan2.1-14B."""

HEAD_DIM = 128


class Heads(NamedTuple):
    """Self-attention of one sample."""

    tokens: int
    heads: int
    dim: int

    @classmethod
    def parse(cls, text: str) -> "Heads":
        """Read ``TOKENSxHEADSxDIM``.

        Raises:
            ValueError: for anything else.
        """
        parts = text.split("x")
        if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
            raise ValueError(f"a shape of attention is written TOKENSxHEADSxDIM, such as 4096x12x128, not {text!r}")
        return cls(*map(int, parts))


class AttentionWork(NamedTuple):
    """What a candidate does.

    Attributes:
        scores: the type that q·k multiplies, as in ``Peaks.operations``.
        values: the type that p·v multiplies.
    """

    scores: str
    values: str


def attention_shapes(quick: bool = False) -> list[Heads]:
    """All numbers of tokens and heads; quick: the shortest of one model."""
    every = [Heads(tokens, heads, HEAD_DIM) for tokens in SHAPES_TOKENS for heads in SHAPES_HEADS]
    return every[:1] if quick else every


def attention_operations(shape: Heads) -> int:
    """Multiplications and additions of both products together."""
    return 4 * shape.tokens**2 * shape.heads * shape.dim


def attention_floors(shape: Heads, work: AttentionWork, peaks: Peaks | None) -> tuple[float | None, float | None]:
    """Seconds of both products at their peaks, and of reading and writing 16 bits once; None where a peak is not known.

    Codes are written and read besides, and keys and values read for each tile of queries, from a cache at best.
    """
    if peaks is None:
        return None, None
    rates = [peaks.operations.get(kind) for kind in work]
    bytes = 4 * 2 * shape.tokens * shape.heads * shape.dim
    arithmetic = None if None in rates else sum(attention_operations(shape) / 2 / rate for rate in rates if rate)
    return arithmetic, bytes / peaks.bandwidth

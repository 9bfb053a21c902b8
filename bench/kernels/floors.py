"""What a GPU needs at least for a linear layer: its arithmetic at the peak rate, its bytes at the bandwidth."""

from dataclasses import dataclass
from typing import NamedTuple

MODELS = {"Wan2.1-1.3B": (1536, 8960), "Wan2.1-14B": (5120, 13824)}
"""Width and inner width of the feed-forward layer."""

TOKENS = (32760, 1, 16, 256)
"""A clip of 81 frames at 480p; the modulation of one and of several time steps; a prompt."""


class Shape(NamedTuple):
    """A linear layer ``(in, out)`` applied to some tokens."""

    tokens: int
    columns: int
    rows: int

    @classmethod
    def parse(cls, text: str) -> "Shape":
        """Read ``tokensxinxout``.

        Raises:
            ValueError: for anything else.
        """
        parts = text.split("x")
        if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
            raise ValueError(f"a shape is written TOKENSxINxOUT, such as 256x1536x8960, not {text!r}")
        return cls(*map(int, parts))


@dataclass(frozen=True)
class Peaks:
    """Dense rates of a GPU by its data sheet.

    Attributes:
        operations: operations a second by type; a product and its sum are two. A type that it lacks is absent.
        bandwidth: bytes a second.
    """

    operations: dict[str, float]
    bandwidth: float


@dataclass(frozen=True)
class Work:
    """What a candidate does, of which its floors follow.

    Attributes:
        arithmetic: the type that is multiplied; None where nothing is.
        input_bytes: bytes of one value of the activation it reads.
        weight_bits: bits of one weight it reads; 0 where it reads none.
        output_bytes: bytes of one value it writes, one for each token and row, or column where there is no weight.
    """

    arithmetic: str | None
    input_bytes: float
    weight_bits: float
    output_bytes: float


def _peaks(bfloat16: float, int8: float, float8: float | None, bandwidth: float) -> Peaks:
    operations = {"bfloat16": bfloat16 * 1e12, "int8": int8 * 1e12}
    if float8 is not None:
        operations["float8"] = float8 * 1e12
    return Peaks(operations, bandwidth * 1e12)


# By a part of the device's name; the first that fits counts. Without sparsity.
_PEAKS = (
    ("H100 PCIe", _peaks(756, 1513, 1513, 2.0)),
    ("H100 NVL", _peaks(835, 1671, 1671, 3.9)),
    ("H100", _peaks(989.4, 1979, 1979, 3.35)),
    ("H200", _peaks(989.4, 1979, 1979, 4.8)),
    ("B200", _peaks(2250, 4500, 4500, 8.0)),
    ("A100-SXM4-40GB", _peaks(312, 624, None, 1.555)),
    ("A100-PCIE-40GB", _peaks(312, 624, None, 1.555)),
    ("A100", _peaks(312, 624, None, 2.039)),
    ("L40S", _peaks(362, 733, 733, 0.864)),
    ("RTX 4090", _peaks(165.2, 660.6, 330.3, 1.008)),
    ("RTX 5090", _peaks(209.5, 838, 419, 1.792)),
)


def shapes(quick: bool = False) -> list[Shape]:
    """Every layer at every number of tokens; quick: the smallest layer of one model and a large one of the other.

    These two come first, so that a run that is cut short covers both models and all numbers of tokens.
    """
    layers = [layer for width, inner in MODELS.values() for layer in ((width, width), (width, inner), (inner, width))]
    first = [layers[0], layers[4]]
    order = first if quick else first + [layer for layer in layers if layer not in first]
    return [Shape(tokens, *layer) for layer in order for tokens in TOKENS]


def peaks_of(device: str) -> Peaks | None:
    """Peaks of a GPU by its name; None where they are not listed here."""
    return next((peaks for part, peaks in _PEAKS if part in device), None)


def operations(shape: Shape, work: Work) -> int:
    """Multiplications and additions."""
    return 0 if work.arithmetic is None else 2 * shape.tokens * shape.columns * shape.rows


def floors(shape: Shape, work: Work, peaks: Peaks | None) -> tuple[float | None, float | None]:
    """Seconds of the arithmetic at its peak and of the bytes at the bandwidth; None where the peak is not known."""
    if peaks is None:
        return None, None
    written = shape.rows if work.weight_bits else shape.columns
    moved = shape.tokens * (shape.columns * work.input_bytes + written * work.output_bytes)
    moved += shape.columns * shape.rows * work.weight_bits / 8
    rate = None if work.arithmetic is None else peaks.operations.get(work.arithmetic)
    return None if rate is None else operations(shape, work) / rate, moved / peaks.bandwidth

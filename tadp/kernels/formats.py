"""The formats of a weight: how each width lies in planes, and what its codes stand for. A new width is a row here.

A weight has codes u of eight bits, cut into planes from their top bits on. A width b reads the leading planes, which
hold u_b = u >> (8 - b), and restores

    w  =  scale * (2^(8-b) * u_b - z_b).

z_8 decides where zero falls in the cells of the narrower widths. At 128 it would be the border of a 6- and a 4-bit
cell, so that small weights, the bulk of every heavy-tailed row, come back as plus or minus half a step: 2 to 5 dB worse
at 4 bits than rounding on their own for Student's t with 3 degrees of freedom. At 134 zero lies inside cells of both
widths (codes 132 to 135 and 128 to 143), and the codes reach from -134 to 121. That this range is lopsided costs
nothing: the scale of a row carries a sign, which turns the row's larger side to the longer one. The zero points of 6
and 4 bits are the centres of their cells, z_8 - (2^(8-b) - 1) / 2; anything else would shift all weights of a row
alike, an error that adds up over the columns wherever activations have a mean.

csrc/formats.h holds the same numbers for C++ and CUDA; tests/kernels/test_formats.py compares them.
"""

from dataclasses import dataclass

CODE_BITS = 8
"""Bits of a whole code."""

PLANE_BITS: dict[str, int] = {"high": 4, "mid": 2, "low": 2}
"""Bits of a code that each plane holds, from the top bits on."""


@dataclass(frozen=True)
class Format:
    """One width.

    Attributes:
        width: bits of a code that are read, b.
        planes: which planes hold them.
        zero: the whole part of the zero point z_b.
        half: what is left of z_b: a half, or nothing.
    """

    width: int
    planes: tuple[str, ...]
    zero: int
    half: float

    @property
    def shift(self) -> int:
        """How far a code of this width stands below its place in a whole code: 8 - b."""
        return CODE_BITS - self.width

    @property
    def zero_point(self) -> float:
        """z_b: what is subtracted from 2^(8-b) * u_b."""
        return self.zero + self.half


FORMATS: dict[int, Format] = {
    row.width: row
    for row in (
        Format(8, ("high", "mid", "low"), zero=134, half=0.0),
        Format(6, ("high", "mid"), zero=132, half=0.5),
        Format(4, ("high",), zero=126, half=0.5),
    )
}
"""By width, from the widest on."""

WIDTHS: tuple[int, ...] = tuple(FORMATS)

GROUP_SIZES: tuple[int, ...] = (64, 128)
"""Columns that may share a scale, where not all columns of a row do."""

MAX_COLUMNS = 65536
"""Longest row whose sums fit 32 bits: 65,536 * 255 * 127 < 2^31."""

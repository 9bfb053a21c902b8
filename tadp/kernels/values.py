"""What the operators are given, as values: codes of activations, planes of a weight, and the epilogue of a product.

Everything written in Python takes these: fakes, checks, references and launchers. Only operators.py knows the flat
lists of arguments that ``torch.ops.tadp`` has. While a graph is written, the fields hold its nodes.
"""

from typing import NamedTuple

import torch

from tadp.kernels.formats import FORMATS
from tadp.kernels.planes import width_of


class Codes(NamedTuple):
    """Activations, quantized.

    Attributes:
        codes: ``(..., columns)`` int8.
        scale: ``(...)`` float32, one for each token.
        sum: int32, of the codes: ``(...)``, or ``(..., groups)`` for a weight with several scales a row.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    sum: torch.Tensor


class Planes(NamedTuple):
    """A weight as a product reads it. Which planes are given decides the width.

    Attributes:
        high: ``(rows, padded / 2)`` uint8; planes.cut says how the three hold the codes.
        mid: ``(rows, padded / 4)`` uint8, or None at 4 bits.
        low: as mid, or None at 6 and 4 bits.
        scale: float32, ``(rows,)``, or ``(rows, groups)`` where several scales share a row.
        widths: ``(rows,)`` uint8, where each row is read at 8, 6 or 4 bits of its own. They come with all planes and
            one scale a row.
    """

    high: torch.Tensor
    mid: torch.Tensor | None
    low: torch.Tensor | None
    scale: torch.Tensor
    widths: torch.Tensor | None = None

    @property
    def rows(self) -> int:
        """Rows of the weight."""
        return self.high.shape[0]

    @property
    def width(self) -> int:
        """The width of the weight; where rows have widths of their own, the widest."""
        return width_of(self.mid, self.low)

    def at(self, width: int) -> "Planes":
        """The same, without the planes that a width does not read."""
        read = FORMATS[width].planes
        mid, low = (plane if name in read else None for name, plane in (("mid", self.mid), ("low", self.low)))
        return self._replace(mid=mid, low=low)

    def of_rows(self, first: int, end: int) -> "Planes":
        """Those of some rows."""
        mid, low, widths = (None if part is None else part[first:end] for part in (self.mid, self.low, self.widths))
        return Planes(self.high[first:end], mid, low, self.scale[first:end], widths)

    @property
    def groups(self) -> int:
        """Scales that share a row; 0 for one scale a row."""
        return self.scale.shape[1] if self.scale.dim() == 2 else 0


class Epilogue(NamedTuple):
    """What a product does with its sums before it stores them.

    Attributes:
        bias: ``(rows,)``, floating, or None.
        nonlinearity: a name in reference.NONLINEARITIES.
        dtype: type of the result; None for that of the activations, which codes do not have.
    """

    bias: torch.Tensor | None = None
    nonlinearity: str = "none"
    dtype: torch.dtype | None = None

"""What a launcher of a GPU product finds out about its arguments, and brings them to, before it launches a kernel."""

from dataclasses import dataclass

import torch

from tadp.kernels.planes import padded_columns
from tadp.kernels.triton.tile import Tile
from tadp.kernels.values import Epilogue, Planes


@dataclass(frozen=True)
class Launch:
    """The sizes of a product, and the tile that serves it.

    Attributes:
        tokens: tokens.
        rows: weight rows.
        columns: weight columns.
        width: bits of the weight.
        groups: scales that share a row; 0 for one scale a row.
        tile: what a program computes.
    """

    tokens: int
    rows: int
    columns: int
    width: int
    groups: int
    tile: Tile

    @classmethod
    def of(cls, activations: torch.Tensor, planes: Planes, kernel_name: str) -> "Launch":
        """``activations`` are codes or values, ``(..., columns)``.

        With widths of single rows the columns are not split, and nothing is read through descriptors.

        Raises:
            ValueError: if ``kernel_name`` is no name of a kernel, or of one that cannot serve these arguments.
        """
        tokens, columns, bits = activations.shape[:-1].numel(), activations.shape[-1], 8 * activations.itemsize
        rows, width, groups = planes.rows, planes.width, planes.groups
        tile = Tile.parse(kernel_name)
        tile.check_fits(columns, groups, activations=bits)
        if planes.widths is not None and (tile.splits > 1 or tile.descriptors):
            raise ValueError(f"{tile}: a kernel that splits columns or reads through descriptors has one width")
        return cls(tokens, rows, columns, width, groups, tile)

    @property
    def programs(self) -> tuple[int, int]:
        """Tiles, and parts that the columns are cut into."""
        return -(-self.tokens // self.tile.tokens) * -(-self.rows // self.tile.rows), self.tile.splits

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Tokens, rows, columns and a quarter of the padded columns, as kernels take them."""
        return self.tokens, self.rows, self.columns, padded_columns(self.columns) // 4


def dense(planes: Planes, epilogue: Epilogue) -> tuple[Planes, Epilogue]:
    """The same as kernels read it: contiguous, and scales of groups as ``(groups, rows)``."""
    high, mid, low, scale, widths, bias = (
        None if tensor is None else tensor.contiguous()
        for tensor in (*planes._replace(scale=planes.scale.t()), epilogue.bias)
    )  # a packed weight's scales lie so already
    assert high is not None
    assert scale is not None
    return Planes(high, mid, low, scale, widths), epilogue._replace(bias=bias)

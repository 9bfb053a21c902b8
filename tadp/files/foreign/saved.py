"""Models in the form of `tadp.save`, as source and as target of conversions."""

from pathlib import Path

import torch

from tadp.files.foreign.pieces import Grid, Piece, Rounded, Tensors, row_piece
from tadp.files.foreign.tensors import Parts, RowCodes, Scheme, Stored
from tadp.files.manifest import Manifest
from tadp.files.packed import assemble
from tadp.files.saved import SavedTensors
from tadp.files.shards import Slot
from tadp.kernels.bitplanes import DTYPES, BitPlaneWeight
from tadp.kernels.formats import FORMATS, PLANE_BITS
from tadp.kernels.planes import cut, encode, plane_shape

NAME = "tadp"

_ZERO = FORMATS[8].zero
_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}


def read(path: Path) -> tuple[Stored, ...]:
    """All tensors, packed ones under one name each.

    Raises:
        ValueError: as `tadp.load`.
    """
    tensors = SavedTensors(path, Manifest.load(path))
    return tuple(_packed(tensors, name) if name in tensors.packed else _plain(tensors, name) for name in tensors.names)


def piece(stored: Stored, rotation: int) -> Piece:
    """A weight as bit planes, rounded as `tadp.kernels.planes.encode` does where its codes cannot be kept."""
    name, (rows, columns) = stored.name, stored.shape
    planes = tuple(Slot(f"{name}.{plane}", torch.uint8, plane_shape(plane, rows, columns)) for plane in PLANE_BITS)
    slots = (*planes, Slot(f"{name}.scale", torch.float32, (rows,)))

    def fill(tensors: Tensors, start: int, stop: int, rounded: Rounded) -> None:
        for slot, content in zip(planes, cut((rounded.codes + _ZERO).to(torch.uint8)), strict=True):
            tensors[slot.key][start:stop] = content
        tensors[f"{name}.scale"][start:stop] = rounded.scale

    return row_piece(stored, slots, GRID, rotation, str(Scheme("8-bit planes", "row", rotation)), fill)


def meta(shape: tuple[int, ...], dtype: torch.dtype, rotation: int) -> BitPlaneWeight:
    """A packed weight without content, with one scale a row."""
    rows, columns = shape
    high, mid, low = (
        torch.empty(plane_shape(plane, rows, columns), dtype=torch.uint8, device="meta") for plane in PLANE_BITS
    )
    scale = torch.empty(rows, dtype=torch.float32, device="meta")
    return BitPlaneWeight(high, mid, low, scale, columns, dtype, None, rotation)


def _encode(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    codes, scale = encode(rows)
    return codes.to(torch.int16) - _ZERO, scale


GRID = Grid(-_ZERO, 255 - _ZERO, signed=True, encode=_encode)
"""What rows of bit planes can hold."""


def _plain(tensors: SavedTensors, name: str) -> Stored:
    head = tensors.head(name)
    return Stored(name, name, tuple(head.shape), head.dtype, lambda: tensors.tensor(name))


def _packed(tensors: SavedTensors, name: str) -> Stored:
    facts = tensors.packed[name]
    groups = tensors.head(f"{name}.scale").shape[1:]
    balanced = f"{name}.factors" in tensors.manifest.tensors
    shape = (tensors.head(f"{name}.high").shape[0], facts["columns"])
    scales = f"group of {shape[1] // groups[0]}" if groups else "row"

    is_plain = not groups and not balanced

    def load() -> Parts:
        parts = [*PLANE_BITS, "scale", *(["factors"] if balanced else [])]
        weight = assemble(name, facts, {part: tensors.tensor(f"{name}.{part}") for part in parts})

        def restore(start: int, stop: int) -> torch.Tensor:
            high, mid, low = (getattr(weight, part)[start:stop].contiguous() for part in PLANE_BITS)
            scale, factors = weight.scale[start:stop], weight.factors
            part = BitPlaneWeight(high, mid, low, scale, weight.columns, torch.float32, factors, weight.rotation)
            return part.dequantize()

        if not is_plain:
            return Parts(restore)
        codes = weight.unpack(8).to(torch.int16) - _ZERO
        # A row of zeros has the scale 0 and any codes.
        return Parts(
            restore, RowCodes(codes.masked_fill_(weight.scale[:, None] == 0, 0), weight.scale, weight.rotation)
        )

    kind = "balanced 8-bit planes" if balanced else "8-bit planes"
    scheme = Scheme(kind, scales, facts.get("rotation", 0), has_row_codes=is_plain)
    return Stored(name, name, shape, _DTYPES[facts["dtype"]], load, scheme)

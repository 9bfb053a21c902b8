"""Models in the form of `tadp.save`, as source and as target of conversions."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tadp.files.checksums import checksum
from tadp.files.foreign.headers import Facts, read_header
from tadp.files.foreign.pieces import Grid, Piece, Rounded, Tensors, row_piece
from tadp.files.foreign.tensors import Parts, RowCodes, Scheme, Stored
from tadp.files.manifest import NAME as MANIFEST
from tadp.files.manifest import Manifest
from tadp.files.packed import METADATA_KEY, PARTS, assemble, packed_weights
from tadp.files.saved import weights_digest
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
    manifest = Manifest.load(path)
    manifest.check_config(path)
    files = {name: read_header(path / name) for name in manifest.files}
    facts = {key: place for found, _ in files.values() for key, place in found.items()}
    packed: dict[str, Mapping[str, Any]] = {}
    for name, (_, metadata) in files.items():
        try:
            packed |= packed_weights(metadata)
        except ValueError as error:
            raise ValueError(f"{path / name}: {error}") from error
        if weights_digest(metadata) != manifest.weights:
            raise ValueError(f"{path / name} is damaged: its metadata {METADATA_KEY} is not what {MANIFEST} says")
    listed = {key: path / place.file for key, place in manifest.tensors.items()}
    if differing := set(listed.items()) ^ {(key, place.file) for key, place in facts.items()}:
        key, file = min(differing)
        raise ValueError(f"{file} and {MANIFEST} do not belong together: {key} is in one only")
    model = _Model(manifest, facts)
    parts = {f"{name}.{part}" for name in packed for part in PARTS}
    plain = tuple(
        Stored(key, key, place.shape, place.dtype, partial(model.tensor, key))
        for key, place in facts.items()
        if key not in parts
    )
    return (*plain, *(_packed(model, name, packed[name]) for name in packed))


@dataclass(frozen=True)
class _Model:
    manifest: Manifest
    facts: Mapping[str, Facts]

    def tensor(self, key: str) -> torch.Tensor:
        """A tensor as the files name it, compared with its checksum; files are not mapped."""
        place = self.facts[key]
        try:
            tensor = place.read()
        except OSError as error:
            raise ValueError(f"{place.file} is damaged: {key} cannot be read ({error})") from error
        if checksum(tensor) != self.manifest.tensors[key].checksum:
            raise ValueError(f"{place.file} is damaged: {key} does not have the checksum that {MANIFEST} gives")
        return tensor


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


def _packed(model: _Model, name: str, facts: Mapping[str, Any]) -> Stored:
    for part in (*PLANE_BITS, "scale"):
        if f"{name}.{part}" not in model.facts:
            raise ValueError(f"the packed weight {name} lacks its part {name}.{part}")
    groups = model.facts[f"{name}.scale"].shape[1:]
    balanced = f"{name}.factors" in model.facts
    shape = (model.facts[f"{name}.high"].shape[0], facts["columns"])
    scales = f"group of {shape[1] // groups[0]}" if groups else "row"
    is_plain = not groups and not balanced

    def load() -> Parts:
        parts = [*PLANE_BITS, "scale", *(["factors"] if balanced else [])]
        weight = assemble(name, facts, {part: model.tensor(f"{name}.{part}") for part in parts})

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

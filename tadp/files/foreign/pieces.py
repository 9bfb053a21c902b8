"""What each tensor of a checkpoint becomes in another format: held as it is, or rounded once more, and how far off.

A format with one scale a row holds any codes that lie in its range, from wherever they come, bit for bit. Rows with
codes outside have them clipped, or are rounded anew, whichever is less far off.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from tadp.files.foreign.tensors import Parts, RowCodes, Stored, slices
from tadp.files.shards import Slot
from tadp.kernels.rotation import rotate

_AT_ONCE = 2**20
"""Elements that are compared at a time, in float64."""

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Outcome:
    """What was done with a tensor.

    Attributes:
        name: of the tensor.
        was: how the source held it.
        becomes: how the target does.
        rows: of the tensor; 1 for tensors without rows.
        changed: rows that were rounded, once more if they had been before.
        signal: sum of the squares of what the source restores to.
        noise: sum of the squares of what differs from it.
    """

    name: str
    was: str
    becomes: str
    rows: int
    changed: int
    signal: float
    noise: float

    @property
    def decibels(self) -> float:
        """Signal over noise; infinite where nothing differs."""
        return decibels(self.signal, self.noise)


@dataclass(frozen=True)
class Piece:
    """A tensor that will be converted.

    Attributes:
        stored: the tensor.
        slots: what the target holds for it.
        make: gives the content of all slots by key, and what was done.
    """

    stored: Stored
    slots: tuple[Slot, ...]
    make: Callable[[], tuple[Tensors, Outcome]]


@dataclass(frozen=True)
class Grid:
    """The codes that a format with one scale a row has.

    Attributes:
        low: the least code, zero at 0.
        high: the largest.
        signed: whether scales may be negative, which mirrors the range.
        encode: rounds rows ``(rows, columns)`` float32 to codes int16 and scales ``(rows,)`` float32.
        rotate: rotates them before, in the order of additions that the format's own program has.
    """

    low: int
    high: int
    signed: bool
    encode: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    rotate: Callable[[torch.Tensor, int], torch.Tensor] = rotate


@dataclass(frozen=True)
class Rounded:
    """Some rows on a grid: codes int16, scales, how many rows are not what they were, and squares as in `Outcome`."""

    codes: torch.Tensor
    scale: torch.Tensor
    changed: int
    signal: float
    noise: float


def decibels(signal: float, noise: float) -> float:
    """Signal over noise as a level; infinite where there is no noise."""
    return math.inf if noise == 0 else -math.inf if signal == 0 else 10 * math.log10(signal / noise)


def plain_piece(stored: Stored, key: str, dtype: torch.dtype, shape: tuple[int, ...] | None = None) -> Piece:
    """A tensor as a plain one of a type, in another shape if one is given."""
    slot = Slot(key, dtype, stored.shape if shape is None else shape)

    def make() -> tuple[Tensors, Outcome]:
        content = stored.load()
        if isinstance(content, torch.Tensor):
            found = content.to(dtype)
            signal, noise = (0.0, 0.0) if content.dtype == dtype else squares(content, found)
        else:
            found, signal, noise = torch.empty(stored.shape, dtype=dtype), 0.0, 0.0
            for start, stop in slices(stored.shape[0]):
                rows = content.rows(start, stop)
                found[start:stop] = rows
                more = squares(rows, found[start:stop])
                signal, noise = signal + more[0], noise + more[1]
        rows_count = stored.shape[0] if len(stored.shape) > 1 else 1
        outcome = Outcome(stored.name, said(stored), text(dtype), rows_count, rows_count * (noise > 0), signal, noise)
        return {key: found.reshape(slot.shape)}, outcome

    return Piece(stored, (slot,), make)


def row_piece(
    stored: Stored,
    slots: tuple[Slot, ...],
    grid: Grid,
    rotation: int,
    becomes: str,
    fill: Callable[[Tensors, int, int, Rounded], object],
    constants: Tensors = MappingProxyType({}),
) -> Piece:
    """A weight on a grid.

    Args:
        stored: the weight.
        slots: what the target holds for it.
        grid: what the target can hold.
        rotation: of the rounded weight. Codes of the source are kept where they have the same.
        becomes: what the target's weight is, in words.
        fill: puts rows from one number to another into the tensors.
        constants: content of slots that does not depend on the weight.
    """

    def make() -> tuple[Tensors, Outcome]:
        tensors = {slot.key: torch.empty(slot.shape, dtype=slot.dtype) for slot in slots if slot.key not in constants}
        parts, changed, signal, noise = stored.parts(), 0, 0.0, 0.0
        for start, stop in slices(stored.shape[0]):
            rounded = round_rows(parts, start, stop, grid, rotation)
            if not math.isfinite(rounded.signal):
                raise ValueError(f"{stored.key} holds NaN or infinity, and cannot be rounded")
            fill(tensors, start, stop, rounded)
            changed, signal, noise = changed + rounded.changed, signal + rounded.signal, noise + rounded.noise
        outcome = Outcome(stored.name, said(stored), becomes, stored.shape[0], changed, signal, noise)
        return {**tensors, **constants}, outcome

    return Piece(stored, slots, make)


def round_rows(parts: Parts, start: int, stop: int, grid: Grid, rotation: int) -> Rounded:
    """Rows of a weight on a grid: its own codes where it has some under this rotation, else rounded.

    Args:
        parts: of the weight.
        start: number of the first row.
        stop: number behind the last.
        grid: where to.
        rotation: of the rounded weight.
    """
    held = parts.codes
    if isinstance(held, RowCodes) and held.rotation == rotation:
        return _held(held.codes[start:stop].to(torch.int16), held.scale[start:stop], grid)
    rows = parts.rows(start, stop)
    rows = grid.rotate(rows, rotation) if rotation else rows
    codes, scale = grid.encode(rows)
    signal, noise = squares(rows, codes * scale[:, None])
    return Rounded(codes, scale, stop - start, signal, noise)


def rotation_for(stored: Stored, wanted: int, allowed: tuple[int, ...]) -> int:
    """The rotation of a weight on a grid: that of the source's codes, where these can be kept; else what is wanted.

    Args:
        stored: the weight.
        wanted: for weights that are rounded.
        allowed: that the target can undo; 0 always is.
    """
    scheme = stored.scheme
    if scheme is not None and scheme.has_row_codes and scheme.rotation in (0, *allowed):
        return scheme.rotation
    return wanted


def fill_int8(key: str, scale: str) -> Callable[[Tensors, int, int, Rounded], None]:
    """Puts codes and scales of rows into tensors ``(rows, columns)`` int8 and ``(rows, 1)`` float32 of these keys."""

    def fill(tensors: Tensors, start: int, stop: int, rounded: Rounded) -> None:
        tensors[key][start:stop] = rounded.codes.to(torch.int8)
        tensors[scale][start:stop, 0] = rounded.scale

    return fill


def said(stored: Stored) -> str:
    """How a checkpoint holds a tensor, in words."""
    return text(stored.dtype) if stored.scheme is None else str(stored.scheme)


def text(dtype: torch.dtype) -> str:
    """A type's name."""
    return str(dtype).removeprefix("torch.")


def _held(codes: torch.Tensor, scale: torch.Tensor, grid: Grid) -> Rounded:
    if not grid.signed:
        codes = torch.where(scale[:, None] < 0, -codes, codes)
        scale = scale.abs()
    found = codes.clamp(grid.low, grid.high)
    off = _steps(codes, found)
    if grid.signed:
        mirrored = (-codes).clamp(grid.low, grid.high)
        off_mirrored = _steps(-codes, mirrored)
        better = off_mirrored < off
        codes = torch.where(better[:, None], -codes, codes)
        found = torch.where(better[:, None], mirrored, found)
        scale = torch.where(better, -scale, scale)
        off = torch.minimum(off, off_mirrored)
    rows = codes * scale[:, None]
    outside = off > 0
    if outside.any():
        which = outside.nonzero().squeeze(1)
        again, again_scale = grid.encode(rows[which])
        off_again = (rows[which] - again * again_scale[:, None]).double().square().sum(1)
        closer = off_again < off[which].double() * scale[which].double().square()
        chosen = which[closer]
        found[chosen], scale = again[closer], scale.index_put((chosen,), again_scale[closer])
    signal, noise = squares(rows, found * scale[:, None])
    # A row of zeros has the scale 0: no code of narrower widths stands for zero, and no format needs a scale for it.
    scale = scale.masked_fill(~found.any(1), 0) if grid.signed else scale
    return Rounded(found, scale, int(outside.sum()), signal, noise)


def _steps(codes: torch.Tensor, clipped: torch.Tensor) -> torch.Tensor:
    """By row, the sum of squares that clipping takes away, in steps."""
    return (codes - clipped).float().square().sum(1)


def squares(rows: torch.Tensor, found: torch.Tensor) -> tuple[float, float]:
    """Sums of squares: of what should be there, and of what differs from it."""
    signal, noise = 0.0, 0.0
    for one, other in zip(rows.reshape(-1).split(_AT_ONCE), found.reshape(-1).split(_AT_ONCE), strict=True):
        exact = one.double()
        signal += float(exact.square().sum())
        noise += float((exact - other.double()).square().sum())
    return signal, noise

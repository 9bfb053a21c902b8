"""``torch.ops.tadp.linear`` on NVIDIA GPUs: int8 tensor-core products of activation codes with bit planes.

A program owns a tile of weight rows by tokens. Weights are the left operand, because Hopper's tensor cores take that
one from registers, where the codes are unpacked; activation codes reach the right operand untouched.

The four quarters of a row's columns share bytes (planes.cut), so a step of the loop reads a block of bytes once and
multiplies four blocks of columns with it. Sums are int32 and exact. What follows takes the steps of csrc/cpu/linear.cpp
in the same order and without fused multiply-adds, so that both give the same bits.
"""

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl

from tadp.kernels.checks import check_linear
from tadp.kernels.planes import padded_columns, width_of
from tadp.kernels.triton.unpack import unpack_ptx

_TILES_PER_GROUP = 8


@dataclass(frozen=True)
class Tile:
    """What one program computes, and with what.

    Attributes:
        rows: weight rows.
        tokens: tokens.
        bytes: bytes of a quarter that a step of the loop reads, which makes four times as many columns.
        warps: warps of 32 threads.
        stages: steps whose memory reads are under way at a time.
    """

    rows: int
    tokens: int
    bytes: int
    warps: int
    stages: int


def tile_for(tokens: int, width: int) -> Tile:
    """The tile for a number of tokens: a rule, not a search, so that nothing is timed while sampling.

    A stage holds ``bytes * (rows * width / 2 + 4 * tokens)`` bytes. All tiles fit the 99 KiB of shared memory that a
    program has on compute capability 8.6, 8.9 and 12.0.
    """
    if tokens <= 16:
        # Bound by reading weights: low tiles spread them over more programs, more stages keep more reads under way.
        return Tile(rows=64, tokens=16, bytes=64, warps=4, stages=4)
    if tokens <= 64:
        return Tile(rows=64, tokens=64, bytes=32, warps=4, stages=4)
    return Tile(rows=128, tokens=128, bytes=32, warps=8, stages=4 if width == 4 else 3)


@triton.jit
def _unpack(high, mid, low, quarter: tl.constexpr, width: tl.constexpr, ptx: tl.constexpr):  # type: ignore[no-untyped-def]
    """Codes of one quarter as int8; those of 8 bits fit only with 128 taken off, that is, with their top bit flipped.

    ``ptx`` is unpack_ptx of each quarter. Where it is None, as in the interpreter, the same is said byte by byte.
    """
    if ptx is not None:
        if width == 8:
            codes = tl.inline_asm_elementwise(ptx[quarter], "=r,r,r,r", [high, mid, low], tl.int8, is_pure=True, pack=4)
        elif width == 6:
            codes = tl.inline_asm_elementwise(ptx[quarter], "=r,r,r", [high, mid], tl.int8, is_pure=True, pack=4)
        else:
            codes = tl.inline_asm_elementwise(ptx[quarter], "=r,r", [high], tl.int8, is_pure=True, pack=4)
    else:
        codes = (high >> (quarter // 2 * 4)) & 15
        if width >= 6:
            codes = (codes << 2) | ((mid >> (2 * quarter)) & 3)
        if width == 8:
            codes = ((codes << 2) | ((low >> (2 * quarter)) & 3)) ^ 128
        codes = codes.to(tl.int8, bitcast=True)
    return codes


@triton.jit
def _load_bytes(plane_rows, byte, inside, masked: tl.constexpr):  # type: ignore[no-untyped-def]
    """A block ``(rows, bytes)`` of a plane."""
    place = plane_rows[:, None] + byte[None, :]
    return tl.load(place, mask=inside[None, :], other=0) if masked else tl.load(place)


@triton.jit
def _load_activations(code_rows, column, inside, masked: tl.constexpr):  # type: ignore[no-untyped-def]
    """A block ``(columns, tokens)`` of activation codes."""
    place = code_rows[None, :] + column[:, None]
    return tl.load(place, mask=inside[:, None], other=0) if masked else tl.load(place)


@triton.jit(do_not_specialize=["tokens"])
def linear_kernel(  # type: ignore[no-untyped-def]
    codes,
    scale,
    sum,
    high,
    mid,
    low,
    weight_scale,
    bias,
    out,
    tokens,
    rows,
    columns,
    quarter,
    width: tl.constexpr,
    ptx: tl.constexpr,
    masked: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_tokens: tl.constexpr,
    tile_bytes: tl.constexpr,
    tiles_per_group: tl.constexpr,
):
    """One tile of ``out`` ``(tokens, rows)``.

    ``masked``: the columns do not fill quarters of whole blocks of ``tile_bytes``. ``mid``, ``low`` and ``bias`` are
    None where there is none. Shapes as in operators.py, all contiguous; ``quarter`` is a quarter of the padded columns.
    """
    # Programs that run together take a few token tiles by several row tiles, and find both operands in the L2 cache.
    row_tiles = tl.cdiv(rows, tile_rows)
    token_tiles = tl.cdiv(tokens, tile_tokens)
    program = tl.program_id(0)
    group_size = tiles_per_group * row_tiles
    first_token_tile = program // group_size * tiles_per_group
    token_tiles_here = min(token_tiles - first_token_tile, tiles_per_group)
    token_tile = first_token_tile + program % group_size % token_tiles_here
    row_tile = program % group_size // token_tiles_here

    row = row_tile * tile_rows + tl.arange(0, tile_rows)
    token = token_tile * tile_tokens + tl.arange(0, tile_tokens)
    # What lies beyond the last row or token repeats it, and is not stored. A tensor may hold more than 2^31 codes.
    row_read = tl.minimum(row, rows - 1).to(tl.int64)
    token_read = tl.minimum(token, tokens - 1).to(tl.int64)

    high_rows = high + row_read * (2 * quarter)
    if width >= 6:
        mid_rows = mid + row_read * quarter
    if width == 8:
        low_rows = low + row_read * quarter
    code_rows = codes + token_read * columns

    total = tl.zeros((tile_rows, tile_tokens), dtype=tl.int32)
    for start in range(0, quarter, tile_bytes):
        byte = start + tl.arange(0, tile_bytes)
        inside = byte < quarter
        even = _load_bytes(high_rows, byte, inside, masked)
        odd = _load_bytes(high_rows + quarter, byte, inside, masked)
        pairs = even
        last_pairs = even
        if width >= 6:
            pairs = _load_bytes(mid_rows, byte, inside, masked)
        if width == 8:
            last_pairs = _load_bytes(low_rows, byte, inside, masked)
        for which in tl.static_range(4):
            weights = _unpack(even if which % 2 == 0 else odd, pairs, last_pairs, which, width, ptx)
            column = which * quarter + byte
            # Planes are padded to equal quarters, activation codes are not. A zero here makes any weight code do.
            activations = _load_activations(code_rows, column, inside & (column < columns), masked)
            total = tl.dot(weights, activations, total, out_dtype=tl.int32)

    # 2^(8-b) * sum(u_b * a) - z_b * sum(a), the half of z_6 and z_4 in float.
    token_sum = tl.load(sum + token_read)[None, :]
    if width == 8:
        value = (total - 6 * token_sum).to(tl.float32)  # 128 are off already, of 134
    elif width == 6:
        value = ((total << 2) - 132 * token_sum).to(tl.float32) - 0.5 * token_sum.to(tl.float32)
    else:
        value = ((total << 4) - 126 * token_sum).to(tl.float32) - 0.5 * token_sum.to(tl.float32)
    value = value * tl.load(scale + token_read)[None, :] * tl.load(weight_scale + row_read)[:, None]
    if bias is not None:
        value += tl.load(bias + row_read)[:, None].to(tl.float32)
    place_out = token.to(tl.int64)[None, :] * rows + row[:, None]
    tl.store(out + place_out, value.to(out.dtype.element_ty), mask=(token < tokens)[None, :] & (row < rows)[:, None])


def linear(
    codes: torch.Tensor,
    scale: torch.Tensor,
    sum: torch.Tensor,
    high: torch.Tensor,
    mid: torch.Tensor | None,
    low: torch.Tensor | None,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """The same as reference.linear, up to rounding; arguments and shapes as in operators.py.

    Raises:
        RuntimeError: for arguments that do not fit each other.
    """
    check_linear(codes, scale, sum, high, mid, low, weight_scale, bias, dtype)
    width, rows, columns = width_of(mid, low), high.shape[0], codes.shape[-1]
    out = torch.empty((*codes.shape[:-1], rows), dtype=dtype, device=codes.device)
    if out.numel() == 0:
        return out
    tokens, quarter = scale.numel(), padded_columns(columns) // 4
    tile = tile_for(tokens, width)
    programs = triton.cdiv(tokens, tile.tokens) * triton.cdiv(rows, tile.rows)
    with torch.cuda.device_of(codes):
        linear_kernel[(programs,)](
            codes.contiguous(),
            scale.contiguous(),
            sum.contiguous(),
            high.contiguous(),
            None if mid is None else mid.contiguous(),
            None if low is None else low.contiguous(),
            weight_scale.contiguous(),
            None if bias is None else bias.contiguous(),
            out,
            tokens,
            rows,
            columns,
            quarter,
            **constants_for(tile, width, columns),
            **options_for(tile),
        )
    return out


def constants_for(tile: Tile, width: int, columns: int) -> dict[str, Any]:
    """The kernel's compile-time arguments."""
    interpreted = triton.knobs.runtime.interpret
    return {
        "width": width,
        "ptx": None if interpreted else tuple(unpack_ptx(width, quarter) for quarter in range(4)),
        "masked": columns % (4 * tile.bytes) != 0,
        "tile_rows": tile.rows,
        "tile_tokens": tile.tokens,
        "tile_bytes": tile.bytes,
        "tiles_per_group": _TILES_PER_GROUP,
    }


def options_for(tile: Tile) -> dict[str, Any]:
    """What the compiler is told."""
    return {"num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": False}

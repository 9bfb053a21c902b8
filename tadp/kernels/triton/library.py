"""``torch.ops.tadp.linear`` by the integer product of the library that torch comes with.

The weight is unpacked to int8 once, `torch._int_mm` multiplies, and the kernel that ends split products finishes: the
same sums and the same steps behind them, hence the same bits as the other kernels. It takes memory for the unpacked
weight and for 32-bit sums, and reads both once more, so it can only win where the product itself is what takes time.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from tadp.kernels.checks import check_linear
from tadp.kernels.planes import padded_columns
from tadp.kernels.triton.blocks import load_planes, unpack_codes
from tadp.kernels.triton.launch import dense
from tadp.kernels.triton.split import add_up
from tadp.kernels.triton.starting import start_kernel
from tadp.kernels.triton.unpack import codes_ptx
from tadp.kernels.values import Codes, Epilogue, Planes

_ROWS, _BYTES, _WARPS = 16, 128, 4
"""A program's weight rows and bytes of each quarter: 16 bytes of a plane for each of its threads."""


@triton.jit
def unpack_kernel(  # type: ignore[no-untyped-def]
    high,
    mid,
    low,
    out,
    rows,
    columns,
    quarter,
    width: tl.constexpr,
    ptx: tl.constexpr,
    masked: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_bytes: tl.constexpr,
):
    """One tile of ``out`` ``(rows, columns)`` int8: codes as blocks.unpack_codes gives them.

    ``masked``: the columns do not fill quarters of whole blocks of ``tile_bytes``.
    """
    byte_tiles = tl.cdiv(quarter, tile_bytes)
    row = tl.program_id(0) // byte_tiles * tile_rows + tl.arange(0, tile_rows)
    byte = tl.program_id(0) % byte_tiles * tile_bytes + tl.arange(0, tile_bytes)
    row_read = tl.minimum(row, rows - 1).to(tl.int64)
    inside = byte < quarter
    even, odd, pairs, last_pairs = load_planes(high, mid, low, row_read, byte, 0, inside, quarter, width, 1, masked)
    out_rows = out + row_read * columns
    for which in tl.static_range(4):
        codes = unpack_codes(even if which % 2 == 0 else odd, pairs, last_pairs, which, width, ptx)
        column = which * quarter + byte
        stored = (row < rows)[:, None] & (inside & (column < columns))[None, :]
        tl.store(out_rows[:, None] + column[None, :], codes, mask=stored)


def linear_by_library(codes: Codes, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
    """The same as reference.linear, up to rounding, and as the other kernels to the bit; without groups.

    Raises:
        RuntimeError: for arguments that do not fit each other, or that `torch._int_mm` does not take.
    """
    check_linear(codes, planes, epilogue)
    torch._check(not planes.groups and planes.widths is None, lambda: "tadp: the library knows one scale a row")
    columns = codes.codes.shape[-1]
    flat = codes.codes.reshape(-1, columns)
    out = torch.empty((*codes.codes.shape[:-1], planes.rows), dtype=epilogue.dtype, device=flat.device)
    if out.numel() == 0:
        return out
    read, ready = dense(planes, epilogue)
    with torch.cuda.device_of(out):
        weight = _unpack(read, columns)
        sums = torch._int_mm(flat, weight.t())
        tokens = Codes(flat, codes.scale.contiguous(), codes.sum.contiguous())
        add_up(sums[None], tokens, read.scale, ready, out, planes.width)
    return out


def _unpack(planes: Planes, columns: int) -> torch.Tensor:
    """Codes ``(rows, columns)`` int8, those of 8 bits 128 short."""
    out = torch.empty((planes.rows, columns), dtype=torch.int8, device=planes.high.device)
    quarter = padded_columns(columns) // 4
    programs = triton.cdiv(planes.rows, _ROWS) * triton.cdiv(quarter, _BYTES)
    start_kernel(
        unpack_kernel,
        (programs,),
        planes.high,
        planes.mid,
        planes.low,
        out,
        planes.rows,
        columns,
        quarter,
        **unpack_constants(planes.width, columns),
        num_warps=_WARPS,
    )
    return out


def unpack_constants(width: int, columns: int) -> dict[str, Any]:
    """The kernel's compile-time arguments."""
    interpreted = triton.knobs.runtime.interpret
    return {
        "width": width,
        "ptx": None if interpreted else tuple(codes_ptx(width, quarter) for quarter in range(4)),
        "masked": columns % (4 * _BYTES) != 0,
        "tile_rows": _ROWS,
        "tile_bytes": _BYTES,
    }

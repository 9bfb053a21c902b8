"""``torch.ops.tadp.dequantize`` on NVIDIA GPUs, and the weight-only product of many tokens that is built on it.

Unpacking in front of every product, as weight_only.py does, costs each tile of tokens once. With many tokens it takes
less time to restore the weight once, in the type of the activations, and to leave the product to the library.

Codes become values of float16 two at a time, exactly (unpack.values), then float32 steps, exactly as well. So a weight
rounds when it is multiplied by its scale, and when that is brought to its type: the bits of the reference and of CPUs.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch.nn import functional

from tadp.kernels.checks import check_dequantize, check_weight_only
from tadp.kernels.planes import padded_columns
from tadp.kernels.reference import NONLINEARITIES
from tadp.kernels.triton.blocks import load_planes, unpack_values
from tadp.kernels.triton.launch import dense
from tadp.kernels.triton.rounding import round_to_bfloat16
from tadp.kernels.triton.starting import start_kernel
from tadp.kernels.triton.unpack import values, values_ptx
from tadp.kernels.values import Epilogue, Planes

_ROWS, _BYTES, _WARPS = 16, 128, 4
"""A program's weight rows and bytes of each quarter: 16 bytes of a plane for each of its threads."""


@triton.jit
def dequantize_kernel(  # type: ignore[no-untyped-def]
    high,
    mid,
    low,
    weight_scale,
    out,
    rows,
    columns,
    quarter,
    width: tl.constexpr,
    group_bytes: tl.constexpr,
    ptx: tl.constexpr,
    zero: tl.constexpr,
    unit: tl.constexpr,
    factor: tl.constexpr,
    masked: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_bytes: tl.constexpr,
):
    """One tile of ``out`` ``(rows, columns)``: ``tile_rows`` by ``tile_bytes`` of each quarter.

    ``group_bytes``: bytes of a quarter that share a scale, ``weight_scale`` then is ``(groups, rows)``; 0 for one scale
    a row. The rest is as in weight_only_kernel.
    """
    byte_tiles = tl.cdiv(quarter, tile_bytes)
    row = tl.program_id(0) // byte_tiles * tile_rows + tl.arange(0, tile_rows)
    byte = tl.program_id(0) % byte_tiles * tile_bytes + tl.arange(0, tile_bytes)
    row_read = tl.minimum(row, rows - 1).to(tl.int64)
    inside = byte < quarter
    even, odd, pairs, last_pairs = load_planes(high, mid, low, row_read, byte, 0, inside, quarter, width, 1, masked)
    if group_bytes:
        place = (byte // group_bytes)[None, :] * rows + row_read[:, None]
        scale = (
            tl.load(weight_scale + place, mask=inside[None, :], other=0) if masked else tl.load(weight_scale + place)
        )
    else:
        scale = tl.load(weight_scale + row_read)[:, None]
    out_rows = out + row_read * columns
    for which in tl.static_range(4):
        block = even if which % 2 == 0 else odd
        steps = unpack_values(block, pairs, last_pairs, which, width, ptx, zero, unit, tl.float16)
        value = steps.to(tl.float32) * factor * scale
        if ptx is None and out.dtype.element_ty == tl.bfloat16:  # the interpreter would cut bits off
            value = round_to_bfloat16(value)
        column = which * quarter + byte
        stored = (row < rows)[:, None] & (inside & (column < columns))[None, :] if masked else (row < rows)[:, None]
        tl.store(out_rows[:, None] + column[None, :], value.to(out.dtype.element_ty), mask=stored)


def dequantize(planes: Planes, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """The same as reference.dequantize, to the bit: ``(rows, columns)``.

    Raises:
        RuntimeError: for planes and scales that do not fit each other or the columns, and for another type.
    """
    check_dequantize(planes, columns, dtype)
    out = torch.empty((planes.rows, columns), dtype=dtype, device=planes.high.device)
    if out.numel() == 0:
        return out
    *weight, _ = dense(planes, Epilogue())[0]
    quarter = padded_columns(columns) // 4
    programs = triton.cdiv(planes.rows, _ROWS) * triton.cdiv(quarter, _BYTES)
    with torch.cuda.device_of(out):
        start_kernel(
            dequantize_kernel,
            (programs,),
            *weight,
            out,
            planes.rows,
            columns,
            quarter,
            **dequantize_constants(planes.width, columns, planes.groups),
            **dequantize_options(),
        )
    return out


def dequantize_constants(width: int, columns: int, groups: int) -> dict[str, Any]:
    """The kernel's compile-time arguments."""
    found = values(width, "fp16")
    interpreted = triton.knobs.runtime.interpret
    return {
        "width": width,
        "group_bytes": columns // groups // 4 if groups else 0,
        "ptx": None if interpreted else tuple(values_ptx(width, quarter, "fp16") for quarter in range(4)),
        "zero": found.zero,
        "unit": found.unit,
        "factor": found.factor,
        "masked": columns % (4 * _BYTES) != 0,
        "tile_rows": _ROWS,
        "tile_bytes": _BYTES,
    }


def dequantize_options() -> dict[str, Any]:
    """What the compiler is told."""
    return {"num_warps": _WARPS, "enable_fp_fusion": False}


def linear_by_dequantizing(x: torch.Tensor, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
    """The same as reference.weight_only_linear in x's type, with the weight rounded to that type first.

    A nonlinearity follows as a kernel of its own, on what the product rounded. The restored weight takes as much memory
    as one of a model that is not quantized, until the product is done.

    Raises:
        RuntimeError: for arguments that do not fit each other.
    """
    check_weight_only(x, planes, epilogue)
    bias = None if epilogue.bias is None else epilogue.bias.to(x.dtype)
    product = functional.linear(x, dequantize(planes, x.shape[-1], x.dtype), bias)
    return NONLINEARITIES[epilogue.nonlinearity](product)

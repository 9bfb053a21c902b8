"""``torch.ops.tadp.linear`` on NVIDIA GPUs: int8 tensor-core products of activation codes with bit planes.

A program owns a tile of weight rows by tokens. Weights are the left operand, because Hopper's tensor cores take that
one from registers, where the codes are unpacked; activation codes reach the right operand untouched.

The four quarters of a row's columns share bytes (planes.cut), so a step of the loop reads a block of bytes once and
multiplies four blocks of columns with it: one after another or, if the tile is deep, joined in one product. Triton
waits for each product of integers on Hopper (its WGMMAPipeline.cpp starts only those with sums in float32 ahead), so a
deep step waits once instead of four times, but unpacks everything first. Elsewhere joining brings nothing, and Triton
unpacks four times over (docs/gpus.md). Sums are int32 and exact, and so they are when programs that share the
columns add theirs up. What follows takes the steps of csrc/cpu/linear.cpp in the same order and without fused
multiply-adds, so that without a nonlinearity both give the same bits.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from tadp.kernels.checks import check_linear
from tadp.kernels.triton.blocks import (
    TILES_PER_GROUP,
    align_pairs,
    join_quarters,
    load_activations,
    load_planes,
    split_of,
    tile_of,
    unpack_codes,
)
from tadp.kernels.triton.epilogue import integer_value, integer_value_by_row, nonlinear, store_tile
from tadp.kernels.triton.launch import Launch, dense
from tadp.kernels.triton.persistent import launch_persistent
from tadp.kernels.triton.split import add_up
from tadp.kernels.triton.starting import start_kernel
from tadp.kernels.triton.tile import Tile
from tadp.kernels.triton.unpack import codes_ptx
from tadp.kernels.values import Codes, Epilogue, Planes


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
    widths,
    out,
    tokens,
    rows,
    columns,
    quarter,
    width: tl.constexpr,
    groups: tl.constexpr,
    ptx: tl.constexpr,
    masked: tl.constexpr,
    nonlinearity: tl.constexpr,
    splits: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_tokens: tl.constexpr,
    tile_bytes: tl.constexpr,
    deep: tl.constexpr,
    tiles_per_group: tl.constexpr,
):
    """One tile of ``out`` ``(tokens, rows)``, or with ``splits`` of the sums ``(splits, tokens, rows)``, int32.

    ``masked``: the columns do not fill quarters of whole blocks of ``tile_bytes``. ``mid``, ``low``, ``bias`` and
    ``widths`` are None where there is none; with ``widths`` there are neither groups nor splits. Shapes as in
    operators.py, all contiguous; ``quarter`` is a quarter of the padded columns. With ``groups`` a step of the loop is
    one of them; ``weight_scale`` then is ``(groups, rows)``. A step multiplies its four quarters at once if it is
    ``deep``, two at once where one is short of the 32 columns that the tensor cores multiply, else one by one.
    """
    row_tile, token_tile = tile_of(
        tl.program_id(0), tl.cdiv(rows, tile_rows), tl.cdiv(tokens, tile_tokens), tiles_per_group
    )
    row = row_tile * tile_rows + tl.arange(0, tile_rows)
    token = token_tile * tile_tokens + tl.arange(0, tile_tokens)
    # What lies beyond the last row or token repeats it, and is not stored. A tensor may hold more than 2^31 codes.
    row_read = tl.minimum(row, rows - 1).to(tl.int64)
    token_read = tl.minimum(token, tokens - 1).to(tl.int64)
    row_widths = None if widths is None else tl.load(widths + row_read)
    code_rows = codes + token_read * columns

    span: tl.constexpr = 2 if tile_bytes < 32 and not deep else 1
    column_place = tl.arange(0, 4 * tile_bytes)
    place = tl.arange(0, span * tile_bytes)
    part = place // tile_bytes if span == 2 else 0
    place = place % tile_bytes if span == 2 else place
    first, last = split_of(tl.program_id(1), quarter, splits, tile_bytes)
    product = tl.zeros((tile_rows, tile_tokens), dtype=tl.int32)
    value = tl.zeros((tile_rows, tile_tokens), dtype=tl.float32)
    for start in range(first, last, tile_bytes):
        byte = start + place
        inside = byte < quarter
        even, odd, pairs, last_pairs = load_planes(
            high, mid, low, row_read, byte, part, inside, quarter, width, span, masked, row_widths
        )
        # Planes are padded to equal quarters, activation codes are not. A zero there makes any weight code do.
        if deep:
            weights = join_quarters(even, odd, pairs, last_pairs, width, ptx)
            byte_of_column = start + column_place % tile_bytes
            column = column_place // tile_bytes * quarter + byte_of_column
            inside = (byte_of_column < quarter) & (column < columns)
            activations = load_activations(code_rows, column, inside, masked)
            product = tl.dot(weights, activations, product, out_dtype=tl.int32)
        else:
            if span == 2:
                pairs = align_pairs(pairs, part, ptx)
                last_pairs = align_pairs(last_pairs, part, ptx)
            for which in tl.static_range(0, 4, span):
                weights = unpack_codes(even if which % 2 == 0 else odd, pairs, last_pairs, which, width, ptx)
                column = (which + part) * quarter + byte
                activations = load_activations(code_rows, column, inside & (column < columns), masked)
                product = tl.dot(weights, activations, product, out_dtype=tl.int32)
        if groups:
            group = start // tile_bytes
            token_sum = tl.load(sum + token_read * groups + group)[None, :]
            group_scale = tl.load(weight_scale + group * rows + row_read)[:, None]
            value += integer_value(product, token_sum, width) * group_scale
            product = tl.zeros((tile_rows, tile_tokens), dtype=tl.int32)

    if splits > 1:
        store_tile(out + tl.program_id(1).to(tl.int64) * tokens * rows, product, token, row, tokens, rows)
    else:
        token_scale = tl.load(scale + token_read)[None, :]
        if groups:
            value = value * token_scale
        else:
            token_sum = tl.load(sum + token_read)[None, :]
            if widths is None:
                value = integer_value(product, token_sum, width)
            else:
                value = integer_value_by_row(product, token_sum, row_widths)
            value = value * token_scale * tl.load(weight_scale + row_read)[:, None]
        if bias is not None:
            value += tl.load(bias + row_read)[:, None].to(tl.float32)
        store_tile(out, nonlinear(value, nonlinearity), token, row, tokens, rows)


def linear(codes: Codes, planes: Planes, epilogue: Epilogue, kernel_name: str) -> torch.Tensor:
    """The same as reference.linear, up to rounding.

    Raises:
        RuntimeError: for arguments that do not fit each other.
        ValueError: if ``kernel_name`` is no name of a kernel, or of one that cannot serve these arguments.
    """
    check_linear(codes, planes, epilogue)
    launch = Launch.of(codes.codes, planes, kernel_name)
    tile, device = launch.tile, codes.codes.device
    out = torch.empty((*codes.scale.shape, launch.rows), dtype=epilogue.dtype, device=device)
    if out.numel() == 0:
        return out
    codes = Codes(*(tensor.contiguous() for tensor in codes))
    planes, epilogue = dense(planes, epilogue)
    if tile.descriptors:
        launch_persistent(tile, codes, planes, epilogue, out)
        return out
    if tile.splits > 1:
        sums = torch.empty((tile.splits, launch.tokens, launch.rows), dtype=torch.int32, device=device)
    *weight, widths = planes
    with torch.cuda.device_of(out):
        start_kernel(
            linear_kernel,
            launch.programs,
            *codes,
            *weight,
            epilogue.bias,
            widths,
            sums if tile.splits > 1 else out,
            *launch.sizes,
            **constants_for(tile, launch.width, launch.columns, launch.groups, epilogue.nonlinearity),
            **options_for(tile),
        )
        if tile.splits > 1:
            add_up(sums, codes, planes.scale, epilogue, out, launch.width)
    return out


def constants_for(tile: Tile, width: int, columns: int, groups: int, nonlinearity: str) -> dict[str, Any]:
    """The kernel's compile-time arguments."""
    interpreted = triton.knobs.runtime.interpret
    return {
        "width": width,
        "groups": groups,
        "ptx": None if interpreted else tuple(codes_ptx(width, quarter) for quarter in range(4)),
        "masked": columns % (4 * tile.bytes) != 0,
        "nonlinearity": nonlinearity,
        "splits": tile.splits,
        "tile_rows": tile.rows,
        "tile_tokens": tile.tokens,
        "tile_bytes": tile.bytes,
        "deep": tile.deep,
        "tiles_per_group": TILES_PER_GROUP,
    }


def options_for(tile: Tile) -> dict[str, Any]:
    """What the compiler is told."""
    return {"num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": False}

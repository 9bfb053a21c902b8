"""``torch.ops.tadp.weight_only_linear`` on NVIDIA GPUs: 16-bit tensor-core products of activations with bit planes.

Built as linear.py is, with codes unpacked to values of a 16-bit type. These are the small integers and fractions that
unpack.values gives, without a scale and exact, so that no weight is rounded: products are exact in float32, and only
their sums round. Scales come in afterwards, once a row or once a group. float32 activations are cut into three parts of
eight significant bits each, exact in bfloat16 and together exact, and each part is multiplied.

How far may a result be off? Let K be the terms of a sum: the columns, thrice for float32. Tensor cores add with
truncation (Fasi, Higham, Mikaitis, Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ CS 2021), which is off
by 2^-23 at most where rounding is by 2^-24. With w the weight in units of its scale s, and at 6 bits in bfloat16 half
the sum of x taken off at the end, which adds up to one unit to what is summed,

    |error|  <=  (K + G + S + 8) * 2^-23 * sum_k(|s| (|w_k| + 1) |x_k|)

where G groups and S splits are added up, plus what bias, nonlinearity and output type round. An infinite activation
makes its token's outputs infinite or, in float32 and at 6 bits, NaN.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from tadp.kernels.checks import check_weight_only
from tadp.kernels.triton.blocks import (
    TILES_PER_GROUP,
    load_activations,
    load_planes,
    split_of,
    tile_of,
    unpack_values,
)
from tadp.kernels.triton.epilogue import nonlinear, store_tile
from tadp.kernels.triton.launch import Launch, dense
from tadp.kernels.triton.linear import options_for
from tadp.kernels.triton.split import add_up
from tadp.kernels.triton.starting import start_kernel
from tadp.kernels.triton.tile import Tile
from tadp.kernels.triton.unpack import values, values_ptx
from tadp.kernels.values import Epilogue, Planes

_VALUE_TYPES = {torch.float32: "bf16", torch.bfloat16: "bf16", torch.float16: "fp16"}
"""The type that weights take beside activations of each type."""


@triton.jit
def _multiply(weights, activations, total, ptx: tl.constexpr):  # type: ignore[no-untyped-def]
    """``total`` plus the product, accumulated in float32."""
    if ptx is None:  # the interpreter would multiply the bits of bfloat16 as integers
        total = tl.dot(weights, activations.to(tl.float32), total, input_precision="ieee")
    elif activations.dtype == tl.float32:
        for _ in tl.static_range(3):
            # Cutting bits off, unlike rounding, leaves a rest that is exact, and never makes a large number infinite.
            leading = (activations.to(tl.uint32, bitcast=True) & 0xFFFF0000).to(tl.float32, bitcast=True)
            total = tl.dot(weights, leading.to(tl.bfloat16), total)
            activations = activations - leading
    else:
        total = tl.dot(weights, activations, total)
    return total


@triton.jit(do_not_specialize=["tokens"])
def weight_only_kernel(  # type: ignore[no-untyped-def]
    x,
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
    groups: tl.constexpr,
    ptx: tl.constexpr,
    zero: tl.constexpr,
    unit: tl.constexpr,
    offset: tl.constexpr,
    factor: tl.constexpr,
    masked: tl.constexpr,
    nonlinearity: tl.constexpr,
    splits: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_tokens: tl.constexpr,
    tile_bytes: tl.constexpr,
    tiles_per_group: tl.constexpr,
):
    """One tile of ``out`` ``(tokens, rows)``, or with ``splits`` of the sums ``(splits, tokens, rows)``, float32.

    ``zero``, ``unit``, ``offset`` and ``factor`` are unpack.values. The rest is as in linear_kernel.
    """
    row_tile, token_tile = tile_of(
        tl.program_id(0), tl.cdiv(rows, tile_rows), tl.cdiv(tokens, tile_tokens), tiles_per_group
    )
    row = row_tile * tile_rows + tl.arange(0, tile_rows)
    token = token_tile * tile_tokens + tl.arange(0, tile_tokens)
    row_read = tl.minimum(row, rows - 1).to(tl.int64)
    token_read = tl.minimum(token, tokens - 1).to(tl.int64)
    x_rows = x + token_read * columns

    value_type: tl.constexpr = tl.float16 if x.dtype.element_ty == tl.float16 else tl.bfloat16
    place = tl.arange(0, tile_bytes)
    first, last = split_of(tl.program_id(1), quarter, splits, tile_bytes)
    product = tl.zeros((tile_rows, tile_tokens), dtype=tl.float32)
    value = tl.zeros((tile_rows, tile_tokens), dtype=tl.float32)
    x_sum = tl.zeros((tile_tokens,), dtype=tl.float32)
    for start in range(first, last, tile_bytes):
        byte = start + place
        inside = byte < quarter
        even, odd, pairs, last_pairs = load_planes(high, mid, low, row_read, byte, 0, inside, quarter, width, 1, masked)
        for which in tl.static_range(4):
            block = even if which % 2 == 0 else odd
            weights = unpack_values(block, pairs, last_pairs, which, width, ptx, zero, unit, value_type)
            column = which * quarter + byte
            activations = load_activations(x_rows, column, inside & (column < columns), masked)
            product = _multiply(weights, activations, product, ptx)
            if offset != 0:
                x_sum += tl.sum(activations.to(tl.float32), 0)
        if groups:
            if offset != 0:
                product -= (offset * unit) * x_sum[None, :]
                x_sum = tl.zeros((tile_tokens,), dtype=tl.float32)
            group_scale = tl.load(weight_scale + start // tile_bytes * rows + row_read)[:, None]
            value += product * group_scale
            product = tl.zeros((tile_rows, tile_tokens), dtype=tl.float32)

    if groups:
        product = value
    elif offset != 0:
        product -= (offset * unit) * x_sum[None, :]
    if splits > 1:
        store_tile(out + tl.program_id(1).to(tl.int64) * tokens * rows, product, token, row, tokens, rows)
    else:
        # Factor and scale are multiplied first: their product is small, and the factor alone could make sums overflow.
        value = product * factor if groups else product * (factor * tl.load(weight_scale + row_read))[:, None]
        if bias is not None:
            value += tl.load(bias + row_read)[:, None].to(tl.float32)
        store_tile(out, nonlinear(value, nonlinearity), token, row, tokens, rows)


def weight_only_linear(x: torch.Tensor, planes: Planes, epilogue: Epilogue, kernel_name: str) -> torch.Tensor:
    """The same as reference.weight_only_linear in x's type, up to rounding.

    Raises:
        RuntimeError: for arguments that do not fit each other.
        ValueError: if ``kernel_name`` is no name of a kernel, or of one that cannot serve these arguments.
    """
    check_weight_only(x, planes, epilogue)
    launch = Launch.of(x, planes, kernel_name)
    tile, width, groups = launch.tile, launch.width, launch.groups
    out = x.new_empty((*x.shape[:-1], launch.rows))
    if out.numel() == 0:
        return out
    planes, epilogue = dense(planes, epilogue)
    type = _VALUE_TYPES[x.dtype]
    constants = weight_only_constants(tile, width, launch.columns, groups, epilogue.nonlinearity, type)
    if tile.splits > 1:
        sums = torch.empty((tile.splits, launch.tokens, launch.rows), dtype=torch.float32, device=x.device)
    *weight, _ = planes
    with torch.cuda.device_of(x):
        start_kernel(
            weight_only_kernel,
            launch.programs,
            x.contiguous(),
            *weight,
            epilogue.bias,
            sums if tile.splits > 1 else out,
            *launch.sizes,
            **constants,
            **weight_only_options(tile),
        )
        if tile.splits > 1:
            add_up(sums, None, None if groups else planes.scale, epilogue, out, width, constants["factor"])
    return out


def weight_only_constants(
    tile: Tile, width: int, columns: int, groups: int, nonlinearity: str, type: str
) -> dict[str, Any]:
    """The kernel's compile-time arguments; ``type`` is that of the weights' values, "bf16" or "fp16"."""
    interpreted = triton.knobs.runtime.interpret
    return {
        "width": width,
        "groups": groups,
        "ptx": None if interpreted else tuple(values_ptx(width, quarter, type) for quarter in range(4)),
        **values(width, type)._asdict(),
        "masked": columns % (4 * tile.bytes) != 0,
        "nonlinearity": nonlinearity,
        "splits": tile.splits,
        "tile_rows": tile.rows,
        "tile_tokens": tile.tokens,
        "tile_bytes": tile.bytes,
        "tiles_per_group": TILES_PER_GROUP,
    }


def weight_only_options(tile: Tile) -> dict[str, Any]:
    """What the compiler is told. Without a bound of its own, ptxas spills a few registers to let more programs run."""
    return {**options_for(tile), "maxnreg": min(255, 65536 // (32 * tile.warps))}

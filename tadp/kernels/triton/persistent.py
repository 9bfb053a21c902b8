"""The product of linear.py with programs that stay: one per multiprocessor, which goes from tile to tile.

Codes and planes are read through tensor descriptors (Hopper and later): a copy unit fetches whole blocks, which leaves
the registers that pointers would take to the codes, and the next tile's first blocks may be under way while one is
finished. Steps and results are those of linear_kernel.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from tadp.kernels.triton.blocks import TILES_PER_GROUP, tile_of, unpack_codes
from tadp.kernels.triton.epilogue import integer_value, nonlinear, store_tile
from tadp.kernels.triton.starting import start_kernel
from tadp.kernels.triton.tile import FIRST_WITH_DESCRIPTORS, Tile
from tadp.kernels.triton.unpack import codes_ptx
from tadp.kernels.values import Codes, Epilogue, Planes


@triton.jit(do_not_specialize=["tokens"])
def persistent_kernel(  # type: ignore[no-untyped-def]
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
    quarter,
    width: tl.constexpr,
    ptx: tl.constexpr,
    nonlinearity: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_tokens: tl.constexpr,
    tile_bytes: tl.constexpr,
    tiles_per_group: tl.constexpr,
):
    """The tiles that fall to one program of ``out`` ``(tokens, rows)``.

    ``codes`` is a descriptor of blocks ``(tile_tokens, tile_bytes)``, ``high``, ``mid`` and ``low`` are descriptors of
    blocks ``(tile_rows, tile_bytes)``; a quarter is a whole number of them. The rest is as in linear_kernel.
    """
    row_tiles = tl.cdiv(rows, tile_rows)
    token_tiles = tl.cdiv(tokens, tile_tokens)
    for tile in tl.range(tl.program_id(0), row_tiles * token_tiles, tl.num_programs(0), flatten=True):
        row_tile, token_tile = tile_of(tile, row_tiles, token_tiles, tiles_per_group)
        first_row = row_tile * tile_rows
        first_token = token_tile * tile_tokens
        product = tl.zeros((tile_rows, tile_tokens), dtype=tl.int32)
        for start in range(0, quarter, tile_bytes):
            even = high.load([first_row, start])
            odd = high.load([first_row, quarter + start])
            pairs = even
            last_pairs = even
            if width >= 6:
                pairs = mid.load([first_row, start])
            if width == 8:
                last_pairs = low.load([first_row, start])
            for which in tl.static_range(4):
                weights = unpack_codes(even if which % 2 == 0 else odd, pairs, last_pairs, which, width, ptx)
                activations = codes.load([first_token, which * quarter + start])
                product = tl.dot(weights, activations.T, product, out_dtype=tl.int32)

        row = first_row + tl.arange(0, tile_rows)
        token = first_token + tl.arange(0, tile_tokens)
        row_read = tl.minimum(row, rows - 1)
        token_read = tl.minimum(token, tokens - 1)
        value = integer_value(product, tl.load(sum + token_read)[None, :], width)
        value = value * tl.load(scale + token_read)[None, :] * tl.load(weight_scale + row_read)[:, None]
        if bias is not None:
            value += tl.load(bias + row_read)[:, None].to(tl.float32)
        store_tile(out, nonlinear(value, nonlinearity), token, row, tokens, rows)


def launch_persistent(tile: Tile, codes: Codes, planes: Planes, epilogue: Epilogue, out: torch.Tensor) -> None:
    """Compute ``out``; arguments as for linear, all contiguous, and fit for the tile.

    Raises:
        ValueError: on a GPU older than Hopper.
    """
    device = out.device
    if out.is_cuda and torch.cuda.get_device_capability(device) < FIRST_WITH_DESCRIPTORS:
        raise ValueError(f"{tile}: tensor descriptors need compute capability 9.0 or later")
    rows, columns, tokens = planes.rows, codes.codes.shape[-1], codes.scale.numel()
    high, mid, low, weight_scale, _ = planes
    tiles = triton.cdiv(tokens, tile.tokens) * triton.cdiv(rows, tile.rows)
    with torch.cuda.device_of(out):
        start_kernel(
            persistent_kernel,
            (min(tiles, _multiprocessors(device)),),
            _describe(codes.codes.view(tokens, columns), tile.tokens, tile.bytes),
            codes.scale,
            codes.sum,
            *(None if plane is None else _describe(plane, tile.rows, tile.bytes) for plane in (high, mid, low)),
            weight_scale,
            epilogue.bias,
            out,
            tokens,
            rows,
            columns // 4,
            **persistent_constants(tile, planes.width, epilogue.nonlinearity),
            **persistent_options(tile),
        )


def persistent_constants(tile: Tile, width: int, nonlinearity: str) -> dict[str, Any]:
    """The kernel's compile-time arguments."""
    interpreted = triton.knobs.runtime.interpret
    return {
        "width": width,
        "ptx": None if interpreted else tuple(codes_ptx(width, quarter) for quarter in range(4)),
        "nonlinearity": nonlinearity,
        "tile_rows": tile.rows,
        "tile_tokens": tile.tokens,
        "tile_bytes": tile.bytes,
        "tiles_per_group": TILES_PER_GROUP,
    }


def persistent_options(tile: Tile) -> dict[str, Any]:
    """What the compiler is told."""
    return {"num_warps": tile.warps, "num_stages": tile.stages, "enable_fp_fusion": False}


def _describe(matrix: torch.Tensor, rows: int, columns: int) -> TensorDescriptor:
    if matrix.data_ptr() % 16:  # a view into the middle of something; the copy unit reads from multiples of 16
        matrix = matrix.clone()
    return TensorDescriptor.from_tensor(matrix, [rows, columns])


def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":  # in the interpreter: few enough that each has several tiles
        return 3
    return torch.cuda.get_device_properties(device).multi_processor_count

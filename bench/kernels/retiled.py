"""What Triton makes of planes that hold the quarters of each 128 columns, instead of the quarters of a row.

Byte j of such a run of 32 holds columns j, 32 + j, 64 + j and 96 + j, so that a step reads 128 bytes of a token side by
side. Compiles the loop of the product with such planes, in three ways, and beside it the kernels that tadp has; needs
no GPU. decisions/0021 is about its figures.

    python -m bench.kernels.retiled
"""

from collections.abc import Iterator
from typing import Any

import torch
import triton
import triton.language as tl
from triton.compiler import CompiledKernel

from tadp.kernels.registry import Request
from tadp.kernels.triton.ahead_of_time import compiling_for
from tadp.kernels.triton.blocks import join_quarters, unpack_codes
from tadp.kernels.triton.compiled import compile_linear, inspect, operands
from tadp.kernels.triton.epilogue import integer_value, store_tile
from tadp.kernels.triton.tile import Tile
from tadp.kernels.triton.unpack import codes_ptx
from tadp.precision import Level

KERNELS = {
    "sm_80": ("128x128x32-w8-s4", "128x128x64-w8-s3", "deep-128x128x32-w8-s4"),
    "sm_89": ("128x128x32-w8-s4", "deep-128x128x32-w8-s4"),
    "sm_90": ("256x128x32-w16-s4", "256x128x64-w16-s3", "deep-256x128x32-w16-s4"),
}
"""What tadp has, for planes of whole rows; the first one's sizes are those of the re-tiled kernels."""

WAYS = ("joined", "split", "apart")


@triton.jit(do_not_specialize=["tokens"])
def retiled_kernel(  # type: ignore[no-untyped-def]
    codes,
    scale,
    sum,
    high,
    mid,
    low,
    weight_scale,
    out,
    tokens,
    rows,
    quarter,
    ptx: tl.constexpr,
    way: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_tokens: tl.constexpr,
):
    """One tile of ``out`` ``(tokens, rows)`` from re-tiled planes at 8 bits; names as in linear_kernel.

    ``way``: one product of "joined" quarters; four products, activations read at once and "split"; or read "apart".
    """
    row = tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)
    token = tl.program_id(1) * tile_tokens + tl.arange(0, tile_tokens)
    row_read = tl.minimum(row, rows - 1).to(tl.int64)
    token_read = tl.minimum(token, tokens - 1).to(tl.int64)
    place = tl.arange(0, 32)[None, :]
    high_place = high + row_read[:, None] * (2 * quarter) + place
    mid_place = mid + row_read[:, None] * quarter + place
    low_place = low + row_read[:, None] * quarter + place
    code_rows = codes + token_read[None, :] * (4 * quarter)
    product = tl.zeros((tile_rows, tile_tokens), dtype=tl.int32)
    for start in range(0, quarter, 32):
        even = tl.load(high_place + 2 * start)
        odd = tl.load(high_place + 2 * start + 32)
        pairs = tl.load(mid_place + start)
        last_pairs = tl.load(low_place + start)
        if way == "joined":
            activations = tl.load(code_rows + 4 * start + tl.arange(0, 128)[:, None])
            weights = join_quarters(even, odd, pairs, last_pairs, 8, ptx)
            product = tl.dot(weights, activations, product, out_dtype=tl.int32)
        else:
            first = unpack_codes(even, pairs, last_pairs, 0, 8, ptx)
            second = unpack_codes(odd, pairs, last_pairs, 1, 8, ptx)
            third = unpack_codes(even, pairs, last_pairs, 2, 8, ptx)
            fourth = unpack_codes(odd, pairs, last_pairs, 3, 8, ptx)
            if way == "split":
                activations = tl.load(code_rows + 4 * start + tl.arange(0, 128)[:, None])
                halves = activations.reshape(2, 2, 32, tile_tokens).permute(2, 3, 1, 0)
                lower, upper = tl.split(halves)
                at_first, at_second = tl.split(lower)
                at_third, at_fourth = tl.split(upper)
            else:
                code_place = code_rows + 4 * start + tl.arange(0, 32)[:, None]
                at_first, at_second = tl.load(code_place), tl.load(code_place + 32)
                at_third, at_fourth = tl.load(code_place + 64), tl.load(code_place + 96)
            product = tl.dot(first, at_first, product, out_dtype=tl.int32)
            product = tl.dot(second, at_second, product, out_dtype=tl.int32)
            product = tl.dot(third, at_third, product, out_dtype=tl.int32)
            product = tl.dot(fourth, at_fourth, product, out_dtype=tl.int32)
    value = integer_value(product, tl.load(sum + token_read)[None, :], 8)
    value = value * tl.load(scale + token_read)[None, :] * tl.load(weight_scale + row_read)[:, None]
    store_tile(out, value, token, row, tokens, rows)


def compile_retiled(request: Request, tile: Tile, way: str) -> CompiledKernel:
    """The kernel of that name for a request, in the sizes of a tile."""
    codes, (high, mid, low, scale, _) = operands(request)
    out = torch.empty(request.tokens, request.rows, dtype=request.dtype, device="meta")
    constants: dict[str, Any] = {
        "ptx": tuple(codes_ptx(8, quarter) for quarter in range(4)),
        "way": way,
        "tile_rows": tile.rows,
        "tile_tokens": tile.tokens,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
        "enable_fp_fusion": False,
    }
    sizes = (request.tokens, request.rows, request.columns // 4)
    with compiling_for(request.architecture):
        return retiled_kernel.warmup(*codes, high, mid, low, scale, out, *sizes, grid=(1,), **constants)


def kernels(architecture: str) -> Iterator[tuple[str, str, int, int, CompiledKernel]]:
    """Planes, name, bytes side by side, steps of 32 bytes in one of its own, and what came out, of each kernel."""
    request = Request(Level(8, 8), 32760, 5120, 5120, 0, torch.bfloat16, "cuda", architecture)
    tiles = [Tile.parse(f"triton-{name}") for name in KERNELS[architecture]]
    for tile in tiles:
        yield "whole rows", str(tile), tile.bytes, tile.bytes // 32, compile_linear(request, str(tile))
    for way in WAYS:
        yield "re-tiled", way, 32 if way == "apart" else 128, 1, compile_retiled(request, tiles[0], way)


def main() -> None:
    """Print a table; instructions and waits are those of 128 columns."""
    print("| architecture | planes | kernel | run | registers | spilled | instructions | waits |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for architecture in KERNELS:
        for planes, name, run, steps, kernel in kernels(architecture):
            found = inspect(kernel)
            figures = (run, found.registers, found.spilled, found.instructions // steps, found.waits // steps)
            print(f"| {architecture} | {planes} | {name} | {' | '.join(map(str, figures))} |")


if __name__ == "__main__":
    main()

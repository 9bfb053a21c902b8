"""Attention on NVIDIA GPUs over the blocks of keys that a map names; attention.py says the rest.

A program owns a tile of queries that lies within a row of the map. It loops over the blocks that the row keeps, in
their order, and takes no step for any other. So its time is that of as many steps, and where all blocks are kept its
steps, and its results, are those of the kernel of the same name that multiplies all.

Programs of rows that keep more blocks take longer. A GPU runs several times as many programs as it has multiprocessors,
which evens that out.
"""

import math

import torch
import triton
import triton.language as tl

from tadp.kernels import triton as triton_kernels
from tadp.kernels.block_map import KEY_BLOCK, queries_of_row
from tadp.kernels.checks import check_attention
from tadp.kernels.triton.attention import attend, attention_options
from tadp.kernels.triton.attention_quantize import quantize_tokens, quantize_values
from tadp.kernels.triton.attention_tile import AttentionTile, most_keys, padded_dim
from tadp.kernels.triton.starting import start_kernel


@triton.jit(do_not_specialize=["queries", "keys", "rows", "key_blocks"])
def sparse_attention_kernel(  # type: ignore[no-untyped-def]
    q,
    q_scale,
    k,
    k_scale,
    v,
    v_scale,
    v_mean,
    kept,
    counts,
    out,
    heads,
    queries,
    keys,
    padded_queries,
    padded_keys,
    rows,
    key_blocks,
    v_stride_batch,
    v_stride_head,
    v_stride_token,
    v_stride_dim,
    dim: tl.constexpr,
    padded: tl.constexpr,
    tile_queries: tl.constexpr,
    tile_keys: tl.constexpr,
    row_queries: tl.constexpr,
    block_keys: tl.constexpr,
    tail: tl.constexpr,
    interpreted: tl.constexpr,
):
    """One tile of ``out``, ``(batch, queries, heads, dim)``, contiguous.

    As ``attention_kernel`` without a mask. Of ``kept``, ``(batch * heads * rows, key_blocks)`` int32, the first
    ``counts`` of a row are the numbers of its blocks.
    """
    tiles = padded_queries // tile_queries
    head = tl.program_id(0) // tiles
    in_batch, batch = head % heads, head // heads
    head, in_batch, batch = head.to(tl.int64), in_batch.to(tl.int64), batch.to(tl.int64)
    first = tl.program_id(0) % tiles * tile_queries
    query = first + tl.arange(0, tile_queries)
    channel = tl.arange(0, padded)
    query_place = head * padded_queries + query
    q_codes = tl.load(q + query_place[:, None] * padded + channel[None, :])
    q_factor = tl.load(q_scale + query_place)
    k += head * padded_keys * padded
    k_scale += head * padded_keys
    if v_scale is None:
        v += batch * v_stride_batch + in_batch * v_stride_head
    else:
        v += head * padded_keys * padded
    row = head * rows + first // row_queries
    kept += row * key_blocks
    steps: tl.constexpr = block_keys // tile_keys

    total = tl.zeros((tile_queries, padded), dtype=tl.float32)
    weights = tl.zeros((tile_queries,), dtype=tl.float32)
    peak = tl.full((tile_queries,), float("-inf"), dtype=tl.float32)
    for step in range(0, tl.load(counts + row) * steps):
        start = tl.load(kept + step // steps) * block_keys + step % steps * tile_keys
        total, weights, peak = attend(
            start,
            total,
            weights,
            peak,
            q_codes,
            q_factor,
            k,
            k_scale,
            v,
            None,
            query,
            queries,
            keys,
            padded_keys,
            (v_stride_token, v_stride_dim),
            (0, 0),
            dim,
            padded,
            tile_keys,
            tail,
            False,
            interpreted,
        )

    result = total * (1.0 / weights)[:, None]  # NaN where the row keeps no block
    if v_scale is not None:
        place = head * padded + channel
        result = result * tl.load(v_scale + place)[None, :] + tl.load(v_mean + place)[None, :]
    place = (batch * queries + query)[:, None] * heads + in_batch
    inside = (query < queries)[:, None] & (channel < dim)[None, :]
    tl.store(out + place * dim + channel[None, :], result.to(out.dtype.element_ty), mask=inside)


def sparse_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    block_map: torch.Tensor,
    scale: float | None = None,
    *,
    kernel_name: str,
) -> torch.Tensor:
    """The same as reference.attention with a ``block_map``, within the bound of attention.py.

    Queries of a row that keeps no block get NaN: finding such a row would wait for the GPU.

    Raises:
        RuntimeError: for arguments that do not fit each other, and for so many keys that places in a head's codes are
            no 32-bit numbers.
        ValueError: if ``kernel_name`` is no name of a kernel, or of one that the GPU has no instructions for, or that
            reads more than a block of keys, or owns queries of several rows.
    """
    check_attention(q, k, v, None, block_map=block_map)
    (batch, heads, queries, dim), keys = q.shape, k.shape[2]
    most = most_keys(dim)
    torch._check(keys <= most, lambda: f"tadp: attention on GPUs takes up to {most} keys of this dim, got {keys}")
    tile = AttentionTile.parse(kernel_name)
    tile.check_fits(triton_kernels.capability_of(q.device))
    row_queries = queries_of_row(queries, block_map)
    if not tile.fits_map(row_queries):
        raise ValueError(f"{tile}: a map of blocks takes tiles of up to {row_queries} queries and {KEY_BLOCK} keys")
    out = torch.empty((batch, queries, heads, dim), dtype=q.dtype, device=q.device)
    if out.numel() == 0:
        return out.transpose(1, 2)
    code_type = torch.int8 if tile.operands.startswith("int8") else torch.float8_e4m3fn
    with torch.cuda.device_of(q):
        factor = (dim**-0.5 if scale is None else scale) * math.log2(math.e)
        q_codes, q_scale = quantize_tokens(q, code_type, tile.queries, factor, centered=False)
        k_codes, k_scale = quantize_tokens(k, code_type, KEY_BLOCK, 1.0, centered=True)
        values, v_scale, v_mean = quantize_values(v, KEY_BLOCK) if tile.operands.endswith("float8") else (v, None, None)
        start_kernel(
            sparse_attention_kernel,
            (batch * heads * (q_codes.shape[1] // tile.queries),),
            q_codes,
            q_scale,
            k_codes,
            k_scale,
            values,
            v_scale,
            v_mean,
            *kept_first(block_map),
            out,
            heads,
            queries,
            keys,
            q_codes.shape[1],
            k_codes.shape[1],
            block_map.shape[2],
            block_map.shape[3],
            *v.stride(),
            **sparse_attention_constants(tile, keys, dim, row_queries),
            **attention_options(tile),
        )
    return out.transpose(1, 2)


def kept_first(block_map: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers of the blocks of each row, those that it keeps first and in their order, and how many it keeps; int32."""
    order = (~block_map).to(torch.uint8).argsort(dim=-1, stable=True).to(torch.int32)
    return order, block_map.sum(-1, dtype=torch.int32)


def sparse_attention_constants(tile: AttentionTile, keys: int, dim: int, row_queries: int) -> dict[str, int | bool]:
    """The kernel's compile-time arguments."""
    return {
        "dim": dim,
        "padded": padded_dim(dim),
        "tile_queries": tile.queries,
        "tile_keys": tile.keys,
        "row_queries": row_queries,
        "block_keys": KEY_BLOCK,
        "tail": keys % KEY_BLOCK != 0,
        "interpreted": triton.knobs.runtime.interpret,
    }

"""``torch.ops.tadp.attention`` on NVIDIA GPUs: both products on 8-bit tensor cores, or the first one only.

After SageAttention (arXiv 2410.02367) and SageAttention2 (arXiv 2411.10958). attention_quantize.py makes the codes.
A program owns a tile of the queries of one head and runs through all keys: scores from codes of q and k, each with the
scales of its query and key, an online softmax in float32, and the product of its weights with the values. The factor of
the scores and log2(e) are in the queries' scales, so that weights are powers of two.

    operands       q·k    p·v
    int8_float16   int8   in the inputs' type, in bfloat16 where that is float32
    int8_float8    int8   e4m3: values by channel and without their mean, weights times 448
    float8_float8  e4m3   as before

How far may a result be off? Let s be the exact scores, w the exact weights, o the exact result. Where computed scores
differ by e_j from s_j, at most by eps_j, weights are w'_j = w_j exp(e_j) / sum(w exp(e)), and since sum(w (v - o)) = 0,

    |sum(w' v) - o|  <=  sum(w_j (exp(eps_j) - 1) |v_j - o|) / sum(w_j exp(-eps_j))      scores
                     <=  (exp(2 eps) - 1) sum(w_j |v_j - o|),       eps the largest eps_j
                         and in any case max |v_j - o|

    eps_ij = |scale| sum_d(|q_id| dk_jd + dq_id |k_jd| + dq_id dk_jd) + float32's rounding, k without its mean
    int8:  dq_id = amax_d |q_id| / 254          e4m3:  dq_id = max(|q_id| / 16, amax_d |q_id| / 448 / 1024)

To that add, with W_j an upper bound of w'_j, and v in float8 without its mean:

    rounding of p:  sum_j((u W_j + a / l) |v_j|)     u = 2^-9 bfloat16, 2^-11 float16, 2^-4 e4m3; a = 2^-25 float16,
                                                     2^-10 / 448 e4m3; l = sum_j(exp(s'_j - max s')), at least one
    rounding of v:  sum_j(W_j dv_j)                  float8: dv_j = max(|v_j| / 16, amax_j |v_j| / 448 / 1024)

and what float32 sums and the result's type round. On Ada, Triton goes from float32 to e4m3 by way of float16 and cuts
off there, which adds 2^-10 to each 2^-4. tests/kernels/triton_attention_bound.py evaluates this. On Hopper, sums of
e4m3 products keep about 14 bits (SageAttention2); those of a step are therefore added to the whole in float32.

Scores of more than 2^128 overflow. A query or key that holds NaN or infinity makes the results NaN of all rows in which
it takes part, such a value its channel.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl

from tadp.kernels import triton as triton_kernels
from tadp.kernels.checks import MAX_KEYS, check_attention
from tadp.kernels.triton.attention_quantize import quantize_tokens, quantize_values
from tadp.kernels.triton.attention_tile import AttentionTile, most_keys, padded_dim
from tadp.kernels.triton.rounding import round_to_bfloat16, round_to_float8
from tadp.kernels.triton.starting import start_kernel

_MAGIC_BITS = tl.constexpr(0x4B400000)
_MAGIC = tl.constexpr(12582912.0)
"""1.5 * 2^23: the float32 number of those bits. Adding an integer of up to 2^22 to the bits adds it to the number."""

_LOG2_448 = tl.constexpr(8.8073)
"""Brings the largest weight, one, just below the largest number of e4m3."""

_LOG2E = tl.constexpr(1.4426950408889634)
_LOWEST = tl.constexpr(-3.4028234663852886e38)


@triton.jit
def scores_of(q, k, k_scale, interpreted: tl.constexpr):  # type: ignore[no-untyped-def]
    """Products of codes ``(queries, keys)`` times the scales of keys, in float32.

    Integers up to 127^2 * 256 < 2^22 are summed up on top of the bits of 1.5 * 2^23 and then read as a float: turning
    them into floats takes the unit that powers of two are waiting for. A multiply-add takes the offset off; three times
    a scale fits float32, so that it is exact and the result rounded once.
    """
    if q.dtype == tl.int8:
        start = tl.full((q.shape[0], k.shape[1]), _MAGIC_BITS, dtype=tl.int32)
        raised = tl.dot(q, k, start, out_dtype=tl.int32).to(tl.float32, bitcast=True)
        if interpreted:  # there a multiply-add rounds twice
            scores = (raised - _MAGIC) * k_scale[None, :]
        else:
            offset = tl.broadcast_to((-_MAGIC * k_scale)[None, :], raised.shape)
            scores = tl.fma(raised, tl.broadcast_to(k_scale[None, :], raised.shape), offset)
    else:
        scores = tl.dot(q, k, out_dtype=tl.float32) * k_scale[None, :]
    return scores


@triton.jit
def load_mask(mask, strides, start, query, queries, key, keys, by_query: tl.constexpr):  # type: ignore[no-untyped-def]
    """A block of a mask from key ``start`` on, ``(queries, keys)``, or ``(1, keys)`` where all queries have the same.

    ``mask`` points to the first query of the tile; places in the tile are 32-bit numbers, which take fewer registers.
    Rows of a mask that differs between queries are whole sixteens, so that as many can be read at once.
    """
    place = (key - start)[None, :] * strides[1]
    inside = (key < keys)[None, :]
    if by_query:
        inside = (key // 16 * 16 < keys)[None, :]
        place += tl.arange(0, query.shape[0])[:, None] * strides[0]
        inside = inside & (query < queries)[:, None]
    return tl.load(mask + tl.cast(start, tl.int64) * strides[1] + place, mask=inside, other=0)


@triton.jit
def interleave(p):  # type: ignore[no-untyped-def]
    """Weights in the order of keys that attention_quantize.key_at gives the codes of values.

    A thread's part of a sum of products is two neighbours of eight columns, its part of a factor of e4m3 four of
    sixteen. In this order they are the same columns, and no weight has to go from one thread to another.
    """
    apart = tl.reshape(p, (p.shape[0], p.shape[1] // 16, 2, 4, 2))
    return tl.reshape(tl.permute(apart, (0, 1, 3, 2, 4)), p.shape)


@triton.jit
def weigh(p, v, total, interpreted: tl.constexpr):  # type: ignore[no-untyped-def]
    """``total`` plus p times v, p rounded to the type of the product: that of v, bfloat16 if that is float32.

    Codes of values have their keys in the order of ``interleave``.
    """
    if interpreted:  # it cuts off what a GPU rounds, and has no products of bfloat16
        if v.dtype == tl.float8e4nv:
            p = interleave(round_to_float8(p))
        elif v.dtype == tl.float16:
            p = p.to(tl.float16).to(tl.float32)
        else:
            p = round_to_bfloat16(p)
            v = round_to_bfloat16(v.to(tl.float32))
        total = tl.dot(p, v.to(tl.float32), total, input_precision="ieee")
    elif v.dtype == tl.float8e4nv:
        total = tl.dot(interleave(p.to(tl.float8e4nv)), v, total, max_num_imprecise_acc=v.shape[0])
    elif v.dtype == tl.float32:
        total = tl.dot(p.to(tl.bfloat16), v.to(tl.bfloat16), total)
    else:
        total = tl.dot(p.to(v.dtype), v, total)
    return total


@triton.jit
def attend(  # type: ignore[no-untyped-def]
    start,
    total,
    weights,
    peak,
    q,
    q_scale,
    k,
    k_scale,
    v,
    mask,
    query,
    queries,
    keys,
    padded_keys,
    v_strides,
    mask_strides,
    dim: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    tail: tl.constexpr,
    mask_by_query: tl.constexpr,
    interpreted: tl.constexpr,
):
    """One step of the loop over keys: sums of values, of weights, and the largest score, with ``block`` more keys."""
    key = start + tl.arange(0, block)
    channel = tl.arange(0, padded)
    codes = tl.load(k + key[None, :] * padded + channel[:, None])
    scores = scores_of(q, codes, tl.load(k_scale + key), interpreted)
    additive: tl.constexpr = False if mask is None else mask.dtype.element_ty != tl.uint8
    if mask is not None:
        found = load_mask(mask, mask_strides, start, query, queries, key, keys, mask_by_query)
        if additive:
            added = found.to(tl.float32) * _LOG2E
            # What is finite stays so: where all keys have the lowest number, none is hidden.
            added = tl.where((added < _LOWEST) & (found > float("-inf")), _LOWEST, added)
            scores = scores * q_scale[:, None] + added
        else:
            scores = tl.where(found != 0, scores, float("-inf"))
    if tail:
        scores = tl.where((key < keys)[None, :], scores, float("-inf"))

    new_peak = tl.maximum(peak, tl.max(scores, 1))
    hidden = new_peak == float("-inf")
    base = tl.where(hidden, 0.0, new_peak)
    factor = tl.where(hidden, 1.0, 1.0 if additive else q_scale)
    power = scores - base[:, None]
    if not additive:
        power = power * factor[:, None]
    shrink = tl.exp2((peak - base) * factor)
    if v.dtype.element_ty == tl.float8e4nv:
        power = power + _LOG2_448
    p = tl.exp2(power)
    weights = weights * shrink + tl.sum(p, 1)
    total = total * shrink[:, None]
    if v.dtype.element_ty == tl.float8e4nv:
        values = tl.trans(tl.load(v + channel[:, None] * padded_keys + key[None, :]))
    else:
        place = key.to(tl.int64)[:, None] * v_strides[0] + channel[None, :] * v_strides[1]
        if tail or dim != padded:
            inside = (key < keys)[:, None] & (channel < dim)[None, :]
            values = tl.load(v + place, mask=inside, other=0.0)
        else:
            values = tl.load(v + place)
    return weigh(p, values, total, interpreted), weights, new_peak


@triton.jit(do_not_specialize=["queries", "keys"])
def attention_kernel(  # type: ignore[no-untyped-def]
    q,
    q_scale,
    k,
    k_scale,
    v,
    v_scale,
    v_mean,
    mask,
    out,
    heads,
    queries,
    keys,
    padded_queries,
    padded_keys,
    v_stride_batch,
    v_stride_head,
    v_stride_token,
    v_stride_dim,
    mask_stride_batch,
    mask_stride_head,
    mask_stride_query,
    mask_stride_key,
    dim: tl.constexpr,
    padded: tl.constexpr,
    tile_queries: tl.constexpr,
    tile_keys: tl.constexpr,
    tail: tl.constexpr,
    mask_by_query: tl.constexpr,
    interpreted: tl.constexpr,
):
    """One tile of ``out``, ``(batch, queries, heads, dim)``, contiguous.

    Codes, scales and means as in attention_quantize.py. ``v`` are codes, with ``v_scale`` and ``v_mean``, or the values
    as they are, with None for both. ``tail``: the keys do not fill whole blocks. ``mask`` is None, or uint8, not zero
    where a key is seen, or floating; ``mask_by_query``: it differs between queries.
    """
    tiles = padded_queries // tile_queries
    head = tl.program_id(0) // tiles
    in_batch, batch = head % heads, head // heads
    head, in_batch, batch = head.to(tl.int64), in_batch.to(tl.int64), batch.to(tl.int64)
    query = tl.program_id(0) % tiles * tile_queries + tl.arange(0, tile_queries)
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
    if mask is not None:
        mask += batch * mask_stride_batch + in_batch * mask_stride_head
        mask += (tl.program_id(0) % tiles * tile_queries).to(tl.int64) * mask_stride_query
    v_strides = (v_stride_token, v_stride_dim)
    mask_strides = (mask_stride_query, mask_stride_key)

    total = tl.zeros((tile_queries, padded), dtype=tl.float32)
    weights = tl.zeros((tile_queries,), dtype=tl.float32)
    peak = tl.full((tile_queries,), float("-inf"), dtype=tl.float32)
    whole = keys // tile_keys * tile_keys
    for start in range(0, whole, tile_keys):
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
            mask,
            query,
            queries,
            keys,
            padded_keys,
            v_strides,
            mask_strides,
            dim,
            padded,
            tile_keys,
            False,
            mask_by_query,
            interpreted,
        )
    if tail:
        total, weights, peak = attend(
            whole,
            total,
            weights,
            peak,
            q_codes,
            q_factor,
            k,
            k_scale,
            v,
            mask,
            query,
            queries,
            keys,
            padded_keys,
            v_strides,
            mask_strides,
            dim,
            padded,
            tile_keys,
            True,
            mask_by_query,
            interpreted,
        )

    result = total * (1.0 / weights)[:, None]
    if v_scale is not None:
        place = head * padded + channel
        result = result * tl.load(v_scale + place)[None, :] + tl.load(v_mean + place)[None, :]
    result = tl.where((weights == 0.0)[:, None], 0.0, result)
    place = (batch * queries + query)[:, None] * heads + in_batch
    inside = (query < queries)[:, None] & (channel < dim)[None, :]
    tl.store(out + place * dim + channel[None, :], result.to(out.dtype.element_ty), mask=inside)


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    *,
    kernel_name: str,
) -> torch.Tensor:
    """The same as reference.attention, within the bound above; arguments and shapes as in operators.py.

    ``kernel_name`` is that of an ``AttentionTile``.

    Raises:
        RuntimeError: for arguments that do not fit each other, and for so many keys that places in a head's codes are
            no 32-bit numbers.
        ValueError: if ``kernel_name`` is no name of a kernel, or of one that the GPU has no instructions for.
    """
    check_attention(q, k, v, mask)
    (batch, heads, queries, dim), keys = q.shape, k.shape[2]
    most = most_keys(dim)
    torch._check(keys <= most, lambda: f"tadp: attention on GPUs takes up to {most} keys of this dim, got {keys}")
    tile = AttentionTile.parse(kernel_name)
    tile.check_fits(triton_kernels.capability_of(q.device))
    out = torch.empty((batch, queries, heads, dim), dtype=q.dtype, device=q.device)
    if out.numel() == 0:
        return out.transpose(1, 2)
    if mask is not None:
        mask = mask.view(torch.uint8) if mask.dtype == torch.bool else mask
        mask = _aligned(mask, keys).expand(batch, heads, queries, keys)
    code_type = torch.int8 if tile.operands.startswith("int8") else torch.float8_e4m3fn
    with torch.cuda.device_of(q):
        factor = (dim**-0.5 if scale is None else scale) * math.log2(math.e)
        q_codes, q_scale = quantize_tokens(q, code_type, tile.queries, factor, centered=False)
        k_codes, k_scale = quantize_tokens(k, code_type, tile.keys, 1.0, centered=True)
        values, v_scale, v_mean = quantize_values(v, tile.keys) if tile.operands.endswith("float8") else (v, None, None)
        start_kernel(
            attention_kernel,
            (batch * heads * (q_codes.shape[1] // tile.queries),),
            q_codes,
            q_scale,
            k_codes,
            k_scale,
            values,
            v_scale,
            v_mean,
            mask,
            out,
            heads,
            queries,
            keys,
            q_codes.shape[1],
            k_codes.shape[1],
            *v.stride(),
            *(mask.stride() if mask is not None else (0, 0, 0, 0)),
            **attention_constants(tile, keys, dim, mask),
            **attention_options(tile),
        )
    return out.transpose(1, 2)


def attention_constants(tile: AttentionTile, keys: int, dim: int, mask: torch.Tensor | None) -> dict[str, Any]:
    """The kernel's compile-time arguments; ``mask`` is expanded."""
    return {
        "dim": dim,
        "padded": padded_dim(dim),
        "tile_queries": tile.queries,
        "tile_keys": tile.keys,
        "tail": keys % tile.keys != 0,
        # A single query's row keeps its stride, but ``_aligned`` leaves such rows as short as they are.
        "mask_by_query": mask is not None and mask.shape[2] > 1 and mask.stride(2) != 0,
        "interpreted": triton.knobs.runtime.interpret,
    }


def attention_options(tile: AttentionTile) -> dict[str, Any]:
    """What the compiler is told."""
    return {"num_warps": tile.warps, "num_stages": tile.stages}


def _aligned(mask: torch.Tensor, keys: int) -> torch.Tensor:
    """A mask that differs between queries in rows of whole sixteens, copied where they are not.

    Read a byte at a time, such a mask leaves no registers for the products. Rows are also no further apart than the
    kernel's 32-bit numbers can say.
    """
    if mask.dim() < 2 or mask.shape[-2] == 1 or mask.shape[-1] != keys:
        return mask
    *others, last = mask.stride()
    starts = (keys, *others, mask.data_ptr())
    if last == 1 and all(start % 16 == 0 for start in starts) and others[-1] <= MAX_KEYS:
        return mask
    room = mask.new_empty((*mask.shape[:-1], triton.cdiv(keys, 16) * 16))
    room[..., :keys] = mask
    return room[..., :keys]

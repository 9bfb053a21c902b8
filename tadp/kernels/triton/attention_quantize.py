"""Codes of queries, keys and values for attention on NVIDIA GPUs: one pass each, after a small reduction for means.

Queries and keys get a scale for each token, keys after their mean over all tokens was taken off: it adds the same to
all scores of a query, which the softmax takes out again (SageAttention, arXiv 2410.02367). Values in
float8 get a scale for each channel, after the channel's mean was taken off, which attention adds back (SageAttention2,
arXiv 2411.10958): its weights sum to one. Any offset would do, so means need not be exact, and leave out what is
not finite. That makes the token's scale NaN, or the channel's.

Codes lie in memory as tensor cores read them: queries and keys ``(batch * heads, tokens, dim)``, values
``(batch * heads, dim, tokens)``, since products of float8 take the dimension that is summed over innermost, with the
tokens in the order of ``key_at``. Tokens and dim are padded with zeros to whole blocks.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from tadp.kernels.triton.attention_tile import padded_dim
from tadp.kernels.triton.rounding import to_float8
from tadp.kernels.triton.starting import start_kernel

_SMALLEST_PEAK = 448 * torch.finfo(torch.float32).tiny
"""What lies below would have a scale below float32's normal range; it counts as zero."""

_BLOCK = 64
"""Tokens of a program."""

_MOST_CHUNKS = 64
"""Parts of the tokens that are reduced on their own, at most: each program that needs the whole adds them up again."""

_PROGRAMS_WANTED = 512
"""Tokens are cut into more parts while fewer programs would run: a few for each multiprocessor of the larger GPUs."""


class TokenCodes(NamedTuple):
    """Queries or keys.

    Attributes:
        codes: ``(batch * heads, padded tokens, padded dim)``, int8 or float8_e4m3fn.
        scale: ``(batch * heads, padded tokens)``, float32.
    """

    codes: torch.Tensor
    scale: torch.Tensor


class ValueCodes(NamedTuple):
    """Values.

    Attributes:
        codes: ``(batch * heads, padded dim, padded tokens)``, float8_e4m3fn; tokens as ``key_at`` has them.
        scale: ``(batch * heads, padded dim)``, float32.
        mean: as ``scale``.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    mean: torch.Tensor


@triton.jit
def load_tokens(x, head, heads, strides, token, tokens, channel, dim):  # type: ignore[no-untyped-def]
    """A block ``(tokens, channels)`` of one head of x, and which of it is inside; zero outside."""
    start = x + (head // heads).to(tl.int64) * strides[0] + (head % heads).to(tl.int64) * strides[1]
    inside = (token < tokens)[:, None] & (channel < dim)[None, :]
    place = token.to(tl.int64)[:, None] * strides[2] + channel[None, :] * strides[3]
    return tl.load(start + place, mask=inside, other=0.0), inside


@triton.jit
def key_at(place):  # type: ignore[no-untyped-def]
    """The key whose values lie at a place: of 16, key 8j + 2t + e lies at 4t + 2j + e; see attention.interleave."""
    return (place & -16) + (place & 2) * 4 + (place & 12) // 2 + (place & 1)


@triton.jit
def mean_of(sums, head, tokens, chunks, channel, padded: tl.constexpr):  # type: ignore[no-untyped-def]
    """Mean over all tokens, by channel, of the sums over chunks; zero where it is not finite."""
    total = tl.zeros((padded,), dtype=tl.float32)
    for chunk in range(chunks):
        total += tl.load(sums + (head.to(tl.int64) * chunks + chunk) * padded + channel)
    mean = total / tokens
    return tl.where(mean - mean == 0.0, mean, 0.0)


@triton.jit(do_not_specialize=["tokens", "chunks", "blocks"])
def statistics_kernel(  # type: ignore[no-untyped-def]
    x,
    sums,
    least,
    largest,
    heads,
    tokens,
    chunks,
    blocks,
    stride_batch,
    stride_head,
    stride_token,
    stride_dim,
    dim: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
):
    """Sums over a chunk of ``blocks`` blocks of tokens, ``(batch * heads, chunks, padded)``; finite values only.

    ``least`` and ``largest`` are None, or take the extremes by channel, NaN where one of its values is not finite.
    """
    head, chunk = tl.program_id(0) // chunks, tl.program_id(0) % chunks
    strides = (stride_batch, stride_head, stride_token, stride_dim)
    channel = tl.arange(0, padded)
    total = tl.zeros((padded,), dtype=tl.float32)
    low = tl.full((padded,), float("inf"), dtype=tl.float32)
    high = tl.full((padded,), float("-inf"), dtype=tl.float32)
    broken = tl.zeros((padded,), dtype=tl.int32)
    for index in range(blocks):
        token = (chunk * blocks + index) * block + tl.arange(0, block)
        found, inside = load_tokens(x, head, heads, strides, token, tokens, channel, dim)
        value = found.to(tl.float32)
        finite = value - value == 0.0
        total += tl.sum(tl.where(finite, value, 0.0), 0)
        if least is not None:
            low = tl.minimum(low, tl.min(tl.where(finite & inside, value, float("inf")), 0))
            high = tl.maximum(high, tl.max(tl.where(finite & inside, value, float("-inf")), 0))
            broken = tl.maximum(broken, tl.max(tl.where(finite, 0, 1), 0))
    place = tl.program_id(0).to(tl.int64) * padded + channel
    tl.store(sums + place, total)
    if least is not None:
        tl.store(least + place, tl.where(broken > 0, float("nan"), low))
        tl.store(largest + place, tl.where(broken > 0, float("nan"), high))


@triton.jit(do_not_specialize=["tokens", "chunks"])
def quantize_tokens_kernel(  # type: ignore[no-untyped-def]
    x,
    sums,
    codes,
    scale,
    factor,
    heads,
    tokens,
    padded_tokens,
    chunks,
    stride_batch,
    stride_head,
    stride_token,
    stride_dim,
    dim: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    smallest: tl.constexpr,
    interpreted: tl.constexpr,
):
    """Codes of ``block`` tokens of a head, and scales with which they are ``factor`` times x.

    Where there are ``sums``, x is taken less its mean. The scale is positive, so a negative factor turns the codes
    around. With a factor of one it has at most 22 significant bits, so that float32 holds three times as much; see
    attention.py. A token below ``smallest`` counts as zero.
    """
    blocks = tl.cdiv(padded_tokens, block)
    head = tl.program_id(0) // blocks
    token = tl.program_id(0) % blocks * block + tl.arange(0, block)
    channel = tl.arange(0, padded)
    strides = (stride_batch, stride_head, stride_token, stride_dim)
    found, inside = load_tokens(x, head, heads, strides, token, tokens, channel, dim)
    value = found.to(tl.float32)
    if sums is not None:
        value = tl.where(inside, value - mean_of(sums, head, tokens, chunks, channel, padded)[None, :], 0.0)
    broken = tl.max(tl.where(value - value == 0.0, 0, 1), 1) > 0
    peak = tl.max(tl.abs(value), 1)
    empty = broken | (peak < smallest) | (peak * tl.abs(factor) < smallest)
    most: tl.constexpr = 127.0 if codes.dtype.element_ty == tl.int8 else 448.0
    step = ((tl.where(empty, most, peak) / most).to(tl.int32, bitcast=True) + 3) & -4
    step = step.to(tl.float32, bitcast=True)
    inverse = tl.where(factor < 0, -1.0, 1.0) / step
    code = tl.where(empty[:, None], 0.0, value * inverse[:, None])
    place = head.to(tl.int64) * padded_tokens + token
    here = token < padded_tokens
    codes += place[:, None] * padded + channel[None, :]
    if codes.dtype.element_ty == tl.int8:
        # The lowest byte of the sum's bits is the code, rounded to the nearest, half to even.
        integer = (code + 12582912.0).to(tl.int32, bitcast=True)
        tl.store(codes, integer.to(tl.int8), mask=here[:, None])
    else:
        tl.store(codes, to_float8(code, interpreted), mask=here[:, None])
    found_scale = tl.where(empty, 1.0, step * tl.abs(factor))
    tl.store(scale + place, tl.where(broken, float("nan"), found_scale), mask=here)


@triton.jit(do_not_specialize=["tokens", "chunks"])
def quantize_values_kernel(  # type: ignore[no-untyped-def]
    x,
    sums,
    least,
    largest,
    codes,
    scale,
    mean,
    heads,
    tokens,
    padded_tokens,
    chunks,
    stride_batch,
    stride_head,
    stride_token,
    stride_dim,
    dim: tl.constexpr,
    padded: tl.constexpr,
    block: tl.constexpr,
    smallest: tl.constexpr,
    interpreted: tl.constexpr,
):
    """Codes ``(padded, padded_tokens)`` of ``block`` tokens of values; a head's first program stores its scales."""
    blocks = tl.cdiv(padded_tokens, block)
    head = tl.program_id(0) // blocks
    place_of_token = tl.program_id(0) % blocks * block + tl.arange(0, block)
    token = key_at(place_of_token)
    channel = tl.arange(0, padded)
    strides = (stride_batch, stride_head, stride_token, stride_dim)
    center = mean_of(sums, head, tokens, chunks, channel, padded)
    low = tl.full((padded,), float("inf"), dtype=tl.float32)
    high = tl.full((padded,), float("-inf"), dtype=tl.float32)
    broken = tl.zeros((padded,), dtype=tl.int32)
    for chunk in range(chunks):
        part = (head.to(tl.int64) * chunks + chunk) * padded + channel
        chunk_low, chunk_high = tl.load(least + part), tl.load(largest + part)
        broken = tl.maximum(broken, tl.where(chunk_low == chunk_low, 0, 1))
        low, high = tl.minimum(low, chunk_low), tl.maximum(high, chunk_high)
    peak = tl.maximum(high - center, center - low)
    empty = (broken > 0) | (channel >= dim) | (peak < smallest)
    step = tl.where(empty, 448.0, peak) / 448.0

    found, inside = load_tokens(x, head, heads, strides, token, tokens, channel, dim)
    value = (found.to(tl.float32) - center[None, :]) * (1.0 / step)[None, :]
    # Rounding of the mean and of quotients may lead a little beyond the largest code.
    value = tl.where(inside & (empty == 0)[None, :], tl.clamp(value, -448.0, 448.0), 0.0)
    place = (head.to(tl.int64) * padded + channel)[:, None] * padded_tokens + place_of_token[None, :]
    tl.store(codes + place, tl.trans(to_float8(value, interpreted)), mask=(place_of_token < padded_tokens)[None, :])
    if tl.program_id(0) % blocks == 0:
        own = head.to(tl.int64) * padded + channel
        tl.store(scale + own, tl.where(broken > 0, float("nan"), step))
        tl.store(mean + own, center)


def quantize_tokens(x: torch.Tensor, dtype: torch.dtype, multiple: int, factor: float, centered: bool) -> TokenCodes:
    """Codes of queries or keys.

    Args:
        x: ``(batch, heads, tokens, dim)``, floating, with any strides.
        dtype: int8 or float8_e4m3fn.
        multiple: what the number of tokens is padded to, a power of two.
        factor: what the scales are multiplied by; the codes of a negative one are those of -x.
        centered: whether the mean over all tokens is taken off.
    """
    batch, heads, tokens, dim = x.shape
    padded_tokens, padded = triton.cdiv(tokens, multiple) * multiple, padded_dim(dim)
    codes = torch.empty((batch * heads, padded_tokens, padded), dtype=dtype, device=x.device)
    scale = torch.empty((batch * heads, padded_tokens), dtype=torch.float32, device=x.device)
    sums, _, _, chunks = _statistics(x, extremes=False) if centered else (None, None, None, 1)
    start_kernel(
        quantize_tokens_kernel,
        (batch * heads * triton.cdiv(padded_tokens, _BLOCK),),
        x,
        sums,
        codes,
        scale,
        factor,
        heads,
        tokens,
        padded_tokens,
        chunks,
        *x.stride(),
        **constants_for(dim),
        interpreted=triton.knobs.runtime.interpret,
        smallest=_SMALLEST_PEAK,
        **OPTIONS,
    )
    return TokenCodes(codes, scale)


def quantize_values(x: torch.Tensor, multiple: int) -> ValueCodes:
    """Codes of values in float8; arguments as for ``quantize_tokens``."""
    batch, heads, tokens, dim = x.shape
    padded_tokens, padded = triton.cdiv(tokens, multiple) * multiple, padded_dim(dim)
    codes = torch.empty((batch * heads, padded, padded_tokens), dtype=torch.float8_e4m3fn, device=x.device)
    scale = torch.empty((batch * heads, padded), dtype=torch.float32, device=x.device)
    mean = torch.empty_like(scale)
    sums, least, largest, chunks = _statistics(x, extremes=True)
    start_kernel(
        quantize_values_kernel,
        (batch * heads * triton.cdiv(padded_tokens, _BLOCK),),
        x,
        sums,
        least,
        largest,
        codes,
        scale,
        mean,
        heads,
        tokens,
        padded_tokens,
        chunks,
        *x.stride(),
        **constants_for(dim),
        interpreted=triton.knobs.runtime.interpret,
        smallest=_SMALLEST_PEAK,
        **OPTIONS,
    )
    return ValueCodes(codes, scale, mean)


def constants_for(dim: int) -> dict[str, Any]:
    """Compile-time arguments that the kernels share."""
    return {"dim": dim, "padded": padded_dim(dim), "block": _BLOCK}


OPTIONS: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": False}
"""What the compiler is told."""


def _statistics(x: torch.Tensor, extremes: bool) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, int]:
    """Sums of chunks of tokens, ``(batch * heads, chunks, padded dim)``, extremes or None, and how many chunks."""
    batch, heads, tokens, dim = x.shape
    steps = triton.cdiv(tokens, _BLOCK)
    blocks = triton.cdiv(steps, min(_MOST_CHUNKS, triton.cdiv(_PROGRAMS_WANTED, batch * heads)))
    chunks = triton.cdiv(steps, blocks)
    shape = (batch * heads, chunks, padded_dim(dim))
    sums, *found = (torch.empty(shape, device=x.device) for _ in range(3 if extremes else 1))
    least, largest = found if extremes else (None, None)
    start_kernel(
        statistics_kernel,
        (batch * heads * chunks,),
        x,
        sums,
        least,
        largest,
        heads,
        tokens,
        chunks,
        blocks,
        *x.stride(),
        **constants_for(dim),
        **OPTIONS,
    )
    return sums, least, largest, chunks

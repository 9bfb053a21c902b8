"""What is measured inside a compiled probe variant: tensors in, one row of numbers per sample of the batch out.

All of it stands in one file, and calls nothing of tadp outside: compiled probes are kept on disk under its hash.

Attention and activations are measured on a sample of their tokens, at a fixed distance from each other. The sampling
error of each signal stands in docs/signals.md.
"""

import math

import torch

SAMPLED_QUERIES = 64
SAMPLED_TOKENS = 128
WIDTHS = (8, 6, 4)
"""Bits that activations may get, in the order in which `quantization_error` returns them.

The same as in kernels/formats.py, which this file must not import; a test compares them.
"""
KEY_ELEMENTS = 1 << 24
"""Elements of keys that are held in float32 at a time, 64 MB: all heads of a long video would take gigabytes."""
HIDDEN_BELOW = -1e3
"""Additive masks use minus infinity or some large negative number; scores do not get there."""
SMALLEST_PEAK = 127 * torch.finfo(torch.float32).tiny
"""The activation quantizer takes a token whose largest magnitude lies below for all zero."""


def stride(count: int, samples: int) -> int:
    """Distance between the tokens that are looked at, so that about `samples` of `count` are.

    It has no factor in common with `count`. Video tokens come row by row, and a distance that shares a factor with the
    length of a row would visit some columns of the picture and never the others.
    """
    distance = max(1, count // samples)
    while math.gcd(distance, count) > 1:
        distance += 1
    return distance


def attention_entropy(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    samples: int = SAMPLED_QUERIES,
) -> torch.Tensor:
    """Entropy of the attention weights over the logarithm of the number of keys: 1 is uniform, 0 is one-hot.

    Taken from about `samples` evenly spaced queries and all heads. Of masked attention only the keys that a query may
    see count; queries that see one key or none say nothing and are left out.

    The standard error is that of a mean over clusters, a query with all its heads being one, drawn without replacement
    (W. G. Cochran, Sampling Techniques, 3rd edition, chapters 2 and 6). Evenly spaced queries differ more from each
    other than queries drawn by lot, neighbours being alike, so it is rather too large than too small. It is 0 where all
    queries are looked at.

    Args:
        query: ``(batch, heads, queries, dim)``, or without heads.
        key: ``(batch, heads, keys, dim)``; fewer heads than queries have are shared among them.
        mask: None, boolean (True: attend) or additive, broadcastable to ``(batch, heads, queries, keys)``.
        scale: factor of the scores, 1 / sqrt(dim) where None.
        samples: how many queries are looked at.

    Returns:
        ``(batch, 2)`` float32: mean over heads and queries, and the standard error of it that sampling causes.
    """
    if query.dim() == 3:
        query, key = query[:, None], key[:, None]
        mask = mask[:, None] if mask is not None and mask.dim() == 3 else mask
    count = query.shape[-2]
    step = stride(count, samples)
    if key.shape[1] != query.shape[1]:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    rows = query[..., ::step, :]
    if mask is not None:
        sampled = mask[..., ::step, :] if mask.shape[-2] == count else mask
        mask = sampled.expand(*rows.shape[:-1], key.shape[-2])
    at_once = max(1, KEY_ELEMENTS * key.shape[1] // max(key.numel(), 1))
    parts = []
    for first in range(0, key.shape[1], at_once):
        own = slice(first, first + at_once)
        parts.append(_entropy_of_heads(rows[:, own], key[:, own], None if mask is None else mask[:, own], scale))
    share, counted = (torch.cat(part, dim=1) for part in zip(*parts, strict=True))
    value, weight = share.sum(1), counted.sum(1)  # a row per sample, a column per query
    whole = weight.sum(1, keepdim=True).clamp(min=1)
    mean = value.sum(1, keepdim=True) / whole
    queries = (weight > 0).sum(1, keepdim=True)
    spread = (value - mean * weight).square().sum(1, keepdim=True) * queries / (queries - 1).clamp(min=1)
    error = (spread * (1 - share.shape[-1] / count)).sqrt() / whole
    return torch.cat([mean, error], dim=1)


def _entropy_of_heads(
    query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Entropy of each row over the logarithm of the keys that it sees, and whether it counts, 1 or 0.

    In float32, which scores rounded to 16 bits would lose, and which some processors multiply faster than bfloat16.
    """
    scores = torch.matmul(query.float(), key.float().transpose(-1, -2))
    scores = scores * (query.shape[-1] ** -0.5 if scale is None else scale)
    if mask is None:
        share = _entropy_of_rows(scores, None) / math.log(max(key.shape[-2], 2))
        return share, torch.ones_like(share)
    seen = mask if mask.dtype == torch.bool else mask > HIDDEN_BELOW
    number = seen.sum(-1)
    counted = (number > 1).float()
    share = _entropy_of_rows(scores if mask.dtype == torch.bool else scores + mask, seen)
    return counted * share / number.clamp(min=2).float().log(), counted


def _entropy_of_rows(scores: torch.Tensor, seen: torch.Tensor | None) -> torch.Tensor:
    """Entropy, in nats, of the softmax over the last dimension, of all keys or those that are seen.

    With e = exp(score - largest), it is log(sum(e)) - sum(e * log(e)) / sum(e): one exponential a score.
    """
    if seen is None:
        logs = scores - scores.amax(-1, keepdim=True)
        weights = logs.exp()
    else:
        visible = scores.masked_fill(~seen, torch.finfo(torch.float32).min)
        logs = (visible - visible.amax(-1, keepdim=True)).masked_fill(~seen, 0)
        weights = logs.exp() * seen
    total = weights.sum(-1).clamp(min=1)  # the largest weighs 1; less is there only where nothing is seen
    return total.log() - (weights * logs).sum(-1) / total


def block_map_entropy(block_map: torch.Tensor) -> torch.Tensor:
    """Entropy of block-sparse attention, as far as the choice of blocks tells it: log(kept) / log(key blocks).

    That is the entropy of the distribution which is uniform over the blocks of keys that a block of queries attends to,
    over the largest possible: 1 where all are kept, 0 where one is. Mean over heads and blocks of queries; those that
    keep none are left out. It is an upper bound of what the attention weights have between blocks, and where every row
    keeps equally many (top-k, as in SLA, arXiv 2509.24006) it is the same for any content.

    Args:
        block_map: ``(batch, heads, query blocks, key blocks)``, boolean, or 0 and 1 of any type.

    Returns:
        ``(batch, 1)`` float32.
    """
    kept = (block_map != 0).sum(-1).flatten(1)
    share = kept.clamp(min=1).float().log() / math.log(max(block_map.shape[-1], 2))
    return (share.sum(1) / (kept > 0).sum(1).clamp(min=1))[:, None]


def activation_moments(values: torch.Tensor, samples: int = SAMPLED_TOKENS) -> torch.Tensor:
    """Kurtosis (3 for a gaussian) and skewness of the values of about `samples` evenly spaced tokens of each sample.

    Central moments are taken token by token and then merged (P. Pebay, Formulas for Robust, One-Pass Parallel
    Computation of Covariances and Arbitrary-Order Statistical Moments, SAND2008-6212, section 2): sums stay short, no
    large numbers are subtracted from each other, and a token is read from memory once.

    Args:
        values: ``(batch, ..., channels)``.
        samples: how many tokens are looked at.

    Returns:
        ``(batch, 2)`` float32.
    """
    tokens = _sampled_tokens(values, samples)
    channels = tokens.shape[-1]
    means = tokens.mean(-1)
    centered = tokens - means[..., None]
    square = centered.square()
    second, third, fourth = (power.sum(-1) for power in (square, square * centered, square.square()))
    offset = means - means.mean(1, keepdim=True)
    count = channels * tokens.shape[1]
    fourth = fourth + offset * (4 * third + offset * (6 * second + offset.square() * channels))
    third = third + offset * (3 * second + offset.square() * channels)
    second = second + offset.square() * channels
    variance = (second.sum(1) / count).clamp(min=1e-12)
    kurtosis = fourth.sum(1) / count / variance.square()
    skewness = third.sum(1) / count / variance.pow(1.5)
    return torch.stack([kurtosis, skewness], dim=1)


def quantization_error(values: torch.Tensor, samples: int = SAMPLED_TOKENS) -> torch.Tensor:
    """``||x - round(x)|| / ||x||`` of about `samples` evenly spaced tokens of each sample, at each of `WIDTHS`.

    Rounding is the activation quantizer's: symmetric, one scale per token, its largest magnitude over 127 at 8 bits, 31
    at 6 and 7 at 4 (ViDiT-Q, arXiv 2406.02540, section 3.2).

    Args:
        values: ``(batch, ..., channels)``.
        samples: how many tokens are looked at.

    Returns:
        ``(batch, len(WIDTHS))`` float32; 0 for a sample of zeros.
    """
    tokens = _sampled_tokens(values, samples)
    peak = tokens.abs().amax(-1).clamp(min=SMALLEST_PEAK)
    squares = []
    for width in WIDTHS:
        largest = 2 ** (width - 1) - 1
        codes = tokens * (largest / peak)[..., None]
        squares.append(((codes - codes.round()).square().sum(-1) * (peak / largest).square()).sum(1))
    whole = tokens.square().sum((1, 2)).clamp(min=torch.finfo(torch.float32).tiny)
    return (torch.stack(squares, dim=1) / whole[:, None]).sqrt()


def relative_change(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """``||after - before|| / ||before||`` of a block: ``(batch, 1)`` float32 (6Bit-Diffusion, arXiv 2603.18742)."""
    before, after = before.float().flatten(1), after.float().flatten(1)
    return ((after - before).norm(dim=1) / before.norm(dim=1).clamp(min=1e-12))[:, None]


def _sampled_tokens(values: torch.Tensor, samples: int) -> torch.Tensor:
    """``(batch, ..., channels)`` as ``(batch, tokens, channels)`` float32, of which some are left out."""
    tokens = values[:, None] if values.dim() == 2 else values.flatten(1, -2)
    return tokens[:, :: stride(tokens.shape[1], samples)].float()

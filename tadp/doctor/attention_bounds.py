"""How far csrc/cpu's attention may be from exact results."""

import math

import torch

from tadp.kernels import reference

BLOCK = 192
"""Keys whose weights are rounded in terms of the largest of them (csrc/cpu/attention_kernels.h)."""

PART = 64
"""Keys of a part of such a block, which a map may leave out."""

UNIT = 2.0**-24
"""float32's unit roundoff."""


def attention_bound(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    block_map: torch.Tensor | None = None,
) -> torch.Tensor:
    """Most by which results of csrc/cpu may differ from exact ones, ``(batch, heads, queries, dim)``.

    Scores. With steps s_q of a query and s_k of a key (peak / 127), rounding moves a score by at most

        |scale| (s_q |k|_1 / 2 + s_k |q|_1 / 2 + dim s_q s_k / 4),

    k without its mean, which is the same for all keys and does not count. To this come float32's roundings of codes,
    means, scales, mask and differences (16 u of what is rounded), the rounding to 1 / 2048 of a factor of two, and the
    cubic that is off by 1.1e-4. Let e be the largest of these sums over a query's keys. A weight, once divided by the
    sum of all, changes by a factor between exp(-2 e) and exp(2 e) (SageAttention, arXiv 2410.02367, has no bound).

    Weights. A code is off by less than one code, and 0.04 for what is cut off, of 255 for the largest weight of the
    block, so weight j by h_j = 1.04 / 255 exp(largest score of its block - largest score). With a map, three of the
    parts that a query sees are such a block, wherever they lie. With H the sum of h, L the
    sum of the weights in terms of the largest one, o the exact result and D = max(1, L exp(-2 e) - H), which the sum of
    the codes is not below,

        |result - o| <= (A / (A - H) or 1 + H) (exp(2 e) - 1) sum(w |v - o|) + sum(h |v - o|) / D,

    with A = L exp(-2 e): the first factor is what the sum of the weights may be too small by.

    Values. A value is off by one step of its channel and block: half, and half of what the key before lost.

    Totals are added up over blocks, with a map over parts, with three roundings each, and divided, shifted and stored
    with one each. No result leaves the range of the values it is a mean of by more than a step.
    """
    exact = reference.attention(q, k, v, mask, scale, dtype=torch.float64, block_map=block_map)
    info = torch.finfo(q.dtype)
    q, k, v = (tensor.double() for tensor in (q, k, v))
    keys, dim = k.shape[-2], q.shape[-1]
    signed = dim**-0.5 if scale is None else scale
    factor = abs(signed)
    mean, shift = k.mean(-2, keepdim=True), v.mean(-2, keepdim=True)
    centred, off_centre = k - mean, v - shift
    step_q, step_k = (x.abs().amax(-1, keepdim=True) / 126.9 for x in (q, centred))
    one_norm_q, one_norm_k = (x.abs().sum(-1, keepdim=True) for x in (q, centred))
    across = step_k.transpose(-1, -2)
    moved = step_q * one_norm_k.transpose(-1, -2) / 2 + one_norm_q * across / 2 + dim * step_q * across / 4
    scores = q @ centred.transpose(-1, -2) * signed
    sizes = scores.abs() + factor * one_norm_q * (k.abs().amax((-1, -2), keepdim=True) + mean.abs().amax())
    seen = torch.ones_like(scores, dtype=torch.bool)
    if mask is not None and mask.dtype == torch.bool:
        seen = mask.expand(scores.shape)
    elif block_map is not None:
        seen = reference.tokens_of_blocks(block_map, q.shape[2], keys)
    elif mask is not None:
        # Keys that a mask all but hides count where a query sees no others: then all alike, their scores are lost.
        added = mask.double().expand(scores.shape)
        plain = (added > -1e30).any(-1, keepdim=True)
        seen = torch.where(plain, added > -1e30, added > -torch.inf)
        scores, sizes = (torch.where(plain, x, 0) for x in (scores + added, sizes + added.abs()))
    scores = scores.masked_fill(~seen, -torch.inf)
    fixed = 0.51 * math.log(2) / 2048 + 1.2e-4
    error = (factor * moved + 16 * UNIT * sizes + fixed).masked_fill(~seen, 0).amax(-1, keepdim=True)

    highest = scores.amax(-1, keepdim=True)
    relative = (scores - highest).masked_fill(~seen, -torch.inf).exp()
    total = relative.sum(-1, keepdim=True)
    block = _blocks_of_keys(block_map, seen)
    peaks = torch.zeros_like(relative).scatter_reduce(-1, block, relative, "amax").gather(-1, block)
    lost = (1.04 / 255 * peaks).masked_fill(~seen, 0) * (2 * error).exp()
    all_lost = lost.sum(-1, keepdim=True)
    low = (total * (-2 * error).exp()).clamp(min=1)
    too_small = torch.where(low >= 1 + all_lost, low / (low - all_lost), 1 + all_lost)
    distances = [(v[..., None, :, d] - exact[..., d, None]).abs() for d in range(dim)]  # of values from the result
    moved_by_scores, moved_by_weights = (
        torch.stack([(weights * distance).sum(-1) for distance in distances], -1)
        for weights in (relative / total, lost)
    )
    spread = too_small * ((2 * error).exp() - 1) * moved_by_scores + moved_by_weights / (low - all_lost).clamp(min=1)
    parts = off_centre.split(BLOCK, -2)
    step = torch.stack([part.abs().amax(-2) for part in parts]).amax(0)[..., None, :] / 125.9
    most = off_centre.abs().amax(-2, keepdim=True)
    spread = torch.minimum(spread.nan_to_num(nan=torch.inf, posinf=torch.inf), 2 * most)
    added_up = len(parts) if block_map is None else block_map.shape[-1]
    floats = (3 * added_up + 8) * UNIT * (most + shift.abs()) + keys * UNIT * v.abs().amax(-2, keepdim=True)
    result = 1.01 * (spread + step + floats + info.eps / 2 * exact.abs()) + info.tiny * info.eps
    return result.masked_fill(~seen.any(-1, keepdim=True), 0)


def _blocks_of_keys(block_map: torch.Tensor | None, seen: torch.Tensor) -> torch.Tensor:
    """The number of the block in whose terms each weight is rounded, as ``seen``, ``(batch, heads, queries, keys)``."""
    if block_map is None:
        return (torch.arange(seen.shape[-1]) // BLOCK).expand(seen.shape)
    parts = seen[..., ::PART].cumsum(-1) - 1
    return parts.clamp(min=0).repeat_interleave(PART, -1)[..., : seen.shape[-1]] // (BLOCK // PART)

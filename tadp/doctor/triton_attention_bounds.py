"""The bound that tadp/kernels/triton/attention.py derives, evaluated in float64."""

import torch

from tadp.kernels import reference

_U = 2.0**-24

_MORE = 1.01
"""What float32 adds to half a step when a value is divided by its scale, with room to spare."""

_E4M3 = 2.0**-4 + 2.0**-10
"""Relative error of rounding to e4m3: on Ada, Triton cuts off what does not fit float16 first."""


def attention_bound(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    *,
    operands: str,
    accumulation: float = _U,
) -> torch.Tensor:
    """How far each result may be from reference.attention in float64, ``(batch, heads, queries, dim)``.

    Keys that an additive mask makes weigh less than 2^-1000 count as hidden.

    Args:
        q: as the operator has it, like the other arguments.
        k: keys.
        v: values.
        mask: mask.
        scale: scale of the scores.
        operands: one of attention_tile.OPERANDS.
        accumulation: by how much each addition in a sum of e4m3 products is off, relative to the sum of magnitudes.
    """
    exact = reference.attention(q, k, v, mask, scale, dtype=torch.float64)
    keys, dim = k.shape[-2:]
    factor = abs(dim**-0.5 if scale is None else scale)
    wide_q, wide_k, wide_v = q.double(), k.double() - k.double().mean(-2, keepdim=True), v.double()
    q_error, k_error = (code_error(x, operands.split("_")[0], -1) for x in (wide_q, wide_k))
    magnitude = factor * wide_q.abs() @ wide_k.abs().transpose(-1, -2)
    rounding = wide_q.abs() @ k_error.transpose(-1, -2) + q_error @ (wide_k.abs() + k_error).transpose(-1, -2)
    rounding = factor * rounding
    scores = wide_q @ wide_k.transpose(-1, -2) * (dim**-0.5 if scale is None else scale)
    if operands.startswith("float8"):
        rounding = rounding + dim * accumulation * magnitude
    seen = torch.ones_like(scores, dtype=torch.bool)
    if mask is not None and mask.dtype == torch.bool:
        seen = mask.expand_as(scores)
    elif mask is not None:
        seen = (mask.double() > -700).expand_as(scores)
        scores = scores + torch.where(seen, mask.double(), 0.0)
        magnitude = magnitude + torch.where(seen, mask.double().abs(), 0.0)
    scores = scores.masked_fill(~seen, -torch.inf)
    log_weights = scores.masked_fill(~seen.any(-1, keepdim=True), 0.0).log_softmax(-1)
    largest = magnitude.masked_fill(~seen, 0.0).amax(-1, keepdim=True)
    # Scales, products and differences from the largest: eight roundings of numbers as large as two scores.
    eps = (rounding + 8 * _U * (magnitude + largest) + 2.0**-22).masked_fill(~seen, 0.0)

    distance = (wide_v[..., None, :, :] - exact[..., None, :]).abs()  # (batch, heads, queries, keys, dim)
    # In logarithms, since a weight of exp(-1000) may turn out to be the largest where eps is 1000.
    least = (log_weights - eps).logsumexp(-1, keepdim=True)
    moved = (log_weights + eps + torch.log(-torch.expm1(-eps)) - least).clamp(max=600.0).exp()
    from_scores = torch.einsum("...qk,...qkd->...qd", moved.masked_fill(~seen, 0.0), distance)
    farthest = distance.masked_fill(~seen[..., None], 0.0).amax(-2)
    most = (log_weights + eps - least).clamp(max=0.0).exp().masked_fill(~seen, 0.0)

    if operands.endswith("float8"):
        wide_v = wide_v - wide_v.mean(-2, keepdim=True)
        relative, absolute, v_error = _E4M3, 2.0**-10 / 448, code_error(wide_v, "float8", -2)
    else:
        relative = 2.0**-11 if v.dtype == torch.float16 else 2.0**-9
        absolute = 2.0**-25 if v.dtype == torch.float16 else 0.0
        v_error = 2.0**-9 * wide_v.abs() if v.dtype == torch.float32 else torch.zeros_like(wide_v)
        accumulation = _U
    size = wide_v.abs() + v_error
    from_weights = relative * most @ size + absolute * seen.double() @ size + (1 + relative) * most @ v_error
    sums = ((keys + 16) * 4 * _U + min(keys, 128) * accumulation) * (most @ size)
    info = torch.finfo(q.dtype)
    error = torch.minimum(from_scores, farthest) + from_weights + sums
    return 1.01 * (error + info.eps / 2 * exact.abs()) + info.tiny * info.eps


def code_error(x: torch.Tensor, kind: str, dim: int) -> torch.Tensor:
    """Largest difference between x and its codes, "int8" or "float8", with a scale for each slice along ``dim``."""
    peak = x.abs().amax(dim, keepdim=True).expand_as(x)
    return _MORE * (peak / 254 if kind == "int8" else torch.maximum(_E4M3 * x.abs(), peak / 448 / 1024))

"""What each operator of ``torch.ops.tadp`` computes, in plain torch and as exactly as it can be said.

The same names as in operators.py. ``quantize`` is defined by its float32 steps, so variants must match it to the bit.
The others are evaluated in float64, where every integer sum is exact; variants may round more often, see the tests.
"""

import torch

from tadp.kernels.planes import ZERO_POINT, join, width_of

SMALLEST_PEAK = 127 * torch.finfo(torch.float32).tiny
"""A token whose largest magnitude lies below would have a scale below float32's normal range; it counts as all zero."""


def quantize(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Symmetric int8 codes with one scale per token (ViDiT-Q, arXiv 2406.02540, section 3.2).

    Args:
        x: ``(..., columns)``, floating.

    Returns:
        codes ``(..., columns)`` int8, round-half-even(x * (127 / amax)); scale ``(...)`` float32, amax / 127, 1 for
        an all-zero token; sum ``(...)`` int32 of the codes. A token that holds NaN or an infinity gets scale NaN and
        codes 0, which makes its outputs NaN and no others.
    """
    wide = x.float()
    peak = wide.abs().amax(-1) if x.shape[-1] else wide.new_zeros(x.shape[:-1])
    broken = ~peak.isfinite()
    empty = broken | (peak < SMALLEST_PEAK)
    safe = peak.masked_fill(empty, 127.0)
    # Tensor by tensor: torch divides by or into a plain number by way of a rounded reciprocal.
    steps = torch.full_like(safe, 127.0)
    codes = (wide * (steps / safe)[..., None]).round().masked_fill(empty[..., None], 0).to(torch.int8)
    scale = (safe / steps).masked_fill(broken, torch.nan)
    return codes, scale, codes.sum(-1, dtype=torch.int32)


def linear(
    codes: torch.Tensor,
    scale: torch.Tensor,
    sum: torch.Tensor,
    high: torch.Tensor,
    mid: torch.Tensor | None,
    low: torch.Tensor | None,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """s_a * s_w * (2^(8-b) * sum_k(u_b * a) - z_b * sum_k(a)) + bias, rounded to ``dtype`` once.

    Args and shapes as in operators.py; ``dtype`` may be float64 too.
    """
    width = width_of(mid, low)
    weights = join(high, mid, low, codes.shape[-1])
    product = codes.double() @ weights.double().T
    centred = 2 ** (8 - width) * product - ZERO_POINT[width] * sum.double()[..., None]
    value = centred * scale.double()[..., None] * weight_scale.double()
    if bias is not None:
        value = value + bias.double()
    return value.to(dtype)


def dequantize(
    high: torch.Tensor,
    mid: torch.Tensor | None,
    low: torch.Tensor | None,
    weight_scale: torch.Tensor,
    columns: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Weights ``(rows, columns)`` restored from planes, rounded to ``dtype`` once."""
    width = width_of(mid, low)
    steps = 2 ** (8 - width) * join(high, mid, low, columns).double() - ZERO_POINT[width]
    return (steps * weight_scale.double()[:, None]).to(dtype)

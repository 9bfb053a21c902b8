"""What each operator of ``torch.ops.tadp`` computes, in plain torch and as exactly as it can be said.

The same names as in operators.py. ``quantize`` is defined by its float32 steps, so kernels must match it to the bit.
The others are evaluated in float64, where every integer sum is exact; kernels may round more often, see the tests.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

from tadp.kernels.block_map import KEY_BLOCK, queries_of_row
from tadp.kernels.formats import FORMATS
from tadp.kernels.planes import group_of_columns, join
from tadp.kernels.rotation import rotate as rotated
from tadp.kernels.values import Codes, Epilogue, Planes

NONLINEARITIES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda value: value,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "silu": functional.silu,
}
"""What a product may be passed through before it is rounded."""

SMALLEST_PEAK = 127 * torch.finfo(torch.float32).tiny
"""A token whose largest magnitude lies below would have a scale below float32's normal range; it counts as all zero."""


def rotate(x: torch.Tensor, size: int) -> torch.Tensor:
    """Runs of `size` columns of x, each rotated, see rotation.py: computed in float32, rounded to x's type once."""
    return rotated(x, size).to(x.dtype)


def quantize(x: torch.Tensor, groups: int = 0, rotation: int = 0) -> Codes:
    """Symmetric int8 codes with one scale per token (ViDiT-Q, arXiv 2406.02540, section 3.2).

    Args:
        x: ``(..., columns)``, floating.
        groups: for weights with several scales a row, how many: the codes of each group of columns are then summed
            by themselves. 0 for one sum a token.
        rotation: columns of each run that is rotated first, as those of the weight are, see rotation.py; 0 for none.

    Returns:
        codes ``(..., columns)`` int8, round-half-even(x * (127 / amax)); scale ``(...)`` float32, amax / 127, 1 for
        an all-zero token; sum int32 of the codes, ``(...)`` or ``(..., groups)``. A token that holds NaN or an
        infinity gets scale NaN and codes 0, which makes its outputs NaN and no others.
    """
    wide = rotated(x, rotation).float()
    peak = wide.abs().amax(-1) if x.shape[-1] else wide.new_zeros(x.shape[:-1])
    broken = ~peak.isfinite()
    empty = broken | (peak < SMALLEST_PEAK)
    safe = peak.masked_fill(empty, 127.0)
    # Tensor by tensor: torch divides by or into a plain number by way of a rounded reciprocal.
    steps = torch.full_like(safe, 127.0)
    codes = (wide * (steps / safe)[..., None]).round().masked_fill(empty[..., None], 0).to(torch.int8)
    scale = (safe / steps).masked_fill(broken, torch.nan)
    return Codes(codes, scale, sum_codes(codes, groups))


def sum_codes(codes: torch.Tensor, groups: int) -> torch.Tensor:
    """Sums of codes ``(..., columns)`` as ``quantize`` returns them: ``(...)``, or ``(..., groups)``."""
    if groups == 0:
        return codes.sum(-1, dtype=torch.int32)
    return codes.unflatten(-1, (4, groups, -1)).sum((-3, -1), dtype=torch.int32)


def linear(activations: Codes, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
    """f(s_a * sum_g(s_wg * (2^(8-b) * sum_k(u_b * a) - z_b * sum_k(a))) + bias), rounded to the result's type once.

    k runs over the columns of group g; without groups all columns are one. The type may be float64 too. With
    ``widths`` b is that of each row; rows of a width other than 8, 6 and 4 give NaN.

    Returns:
        ``(..., rows)``.
    """
    codes, scale, _ = activations
    weight = restore(planes, codes.shape[-1], torch.float64)
    return _finish(codes.double() @ weight.T * scale.double()[..., None], epilogue)


def weight_only_linear(x: torch.Tensor, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
    """f(x @ weight.T + bias) with the weight restored from planes, rounded to the result's type once.

    Args:
        x: ``(..., columns)``, floating.
        planes: of the weight.
        epilogue: its type may be float64 too; without one it is that of x.

    Returns:
        ``(..., rows)``.
    """
    weight = dequantize(planes, x.shape[-1], torch.float64)
    return _finish(x.double() @ weight.T, epilogue._replace(dtype=epilogue.dtype or x.dtype))


def dequantize(planes: Planes, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """Weights ``(rows, columns)`` restored from planes, rounded to ``dtype`` once."""
    codes = join(planes.high, planes.mid, planes.low, columns)
    found = FORMATS[planes.width]
    steps = 2**found.shift * codes.double() - found.zero_point
    scale = planes.scale.double()
    if not planes.groups:
        return (steps * scale[:, None]).to(dtype)
    return (steps * scale[:, group_of_columns(columns, planes.groups).to(scale.device)]).to(dtype)


def restore(planes: Planes, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """As ``dequantize``, where rows have widths of their own each at its own."""
    return dequantize(planes, columns, dtype) if planes.widths is None else _dequantize_rows(planes, columns, dtype)


def _dequantize_rows(planes: Planes, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """Each row at its own width."""
    weight = torch.full((planes.rows, columns), torch.nan, dtype=dtype, device=planes.high.device)
    assert planes.widths is not None
    for width in FORMATS:
        whole = dequantize(planes.at(width), columns, dtype)
        weight = torch.where((planes.widths == width)[:, None], whole, weight)
    return weight


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    *,
    dtype: torch.dtype | None = None,
    block_map: torch.Tensor | None = None,
) -> torch.Tensor:
    """softmax(scale * q @ k.T + mask) @ v without any quantization, rounded to ``dtype``, else to q's, once.

    What every kernel approximates: each derives how far its codes may be off. A query that may see no key gives zeros.

    Args:
        q: ``(batch, heads, queries, dim)``, floating.
        k: ``(batch, heads, keys, dim)``.
        v: as k.
        mask: None, boolean (True: attend) or additive, broadcastable to ``(batch, heads, queries, keys)``.
        scale: factor of the scores, 1 / sqrt(dim) where None.
        dtype: of the result; float64 too.
        block_map: as a mask of whole blocks, see ``tokens_of_blocks``.

    Returns:
        As q, in memory as ``(batch, queries, heads, dim)``.
    """
    if block_map is not None:
        mask = tokens_of_blocks(block_map, q.shape[2], k.shape[2])
    scores = q.double() @ k.double().transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask.double()
    hidden = (scores == -torch.inf).all(-1, keepdim=True)
    weights = scores.masked_fill(hidden, 0.0).softmax(-1).masked_fill(hidden, 0.0)
    result = (weights @ v.double()).to(dtype or q.dtype)
    return result.transpose(1, 2).contiguous().transpose(1, 2)


def tokens_of_blocks(block_map: torch.Tensor, queries: int, keys: int) -> torch.Tensor:
    """A ``block_map`` as a boolean mask ``(batch, heads, queries, keys)`` that hides the keys of blocks it leaves out.

    Args:
        block_map: ``(batch, heads, query blocks, key blocks)``, boolean, as operators.py has it.
        queries: tokens of the queries, in blocks of 64 or 128.
        keys: tokens of the keys, in blocks of 64.
    """
    rows = block_map.repeat_interleave(queries_of_row(queries, block_map), -2)[..., :queries, :]
    return rows.repeat_interleave(KEY_BLOCK, -1)[..., :keys]


def _finish(value: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    if epilogue.bias is not None:
        value = value + epilogue.bias.double()
    assert epilogue.dtype is not None
    return NONLINEARITIES[epilogue.nonlinearity](value).to(epilogue.dtype)

"""How far a product may be from its reference: bounds on its roundings.

u = 2^-24 is float32's unit roundoff throughout, and a factor of 1.01 stands for higher orders.
"""

from typing import Any

import torch

from tadp.kernels import planes, reference
from tadp.kernels.operators import unflatten
from tadp.kernels.values import Codes, Epilogue, Planes

_U = 2.0**-24

TRITON, CPP = 8, 30
"""By how many u times |value| evaluating a nonlinearity is off: of Triton's functions, and of csrc/cpu's."""


def finished_bound(
    value: torch.Tensor, error: torch.Tensor, nonlinearity: str, dtype: torch.dtype, evaluation: int = TRITON
) -> torch.Tensor:
    """Bound of f(value) in ``dtype``, where float32 holds ``value``, bias included, up to ``error``.

    The slopes of all nonlinearities are below 1.13. Evaluating them adds at most ``evaluation`` u times |value|; for
    C++ csrc/nonlinearity.h says why, for Triton the following. gelu: erf is off by
    2u, by u where its argument was rounded twice (z erf'(z) < 0.5), 1 + erf by 2u, all times |value| / 2; the product
    by u. The others are value * s with s = 1 / (1 + exp(-y)): y is rounded six times, and the exponential is off by
    y u for its own scaling and by 4u, so s by s(1 - s)(7|y| + 4)u, which is at most 2.6u since s(1 - s)|y| < 0.224; the
    sum adds u, the quotient, of two units in the last place, 4u.
    """
    if nonlinearity != "none":
        error = 1.13 * error + evaluation * _U * value.abs()
    info = torch.finfo(dtype)
    result = reference.NONLINEARITIES[nonlinearity](value)
    return 1.01 * (error + info.eps / 2 * result.abs()) + info.tiny * info.eps


def linear_bound(arguments: dict[str, Any], nonlinearity: str, evaluation: int = TRITON) -> torch.Tensor:
    """For the operator linear with groups, by name as the schema has them.

    With I_g the integer of a group: it becomes a float (u), the half of z_6 and z_4 is subtracted (u), a scale is
    multiplied on (u), G groups are added (G u of the sum of their magnitudes), the token's scale is multiplied on (u)
    and the bias added (u of the value).
    """
    groups = arguments["weight_scale"].shape[1]
    plain = {**arguments, "nonlinearity": "none", "dtype": torch.float64}

    def exact(**given: Any) -> torch.Tensor:
        return reference.linear(*unflatten("linear", **given)[:3])

    magnitude = torch.zeros(())
    for group in range(groups):
        scale = torch.zeros_like(arguments["weight_scale"])
        scale[:, group] = arguments["weight_scale"][:, group]
        alone = {**plain, "weight_scale": scale, "bias": None}
        half = arguments["sum"][..., group].double().abs()[..., None] * scale[:, group].double().abs()
        magnitude = magnitude + exact(**alone).abs() + arguments["scale"].double()[..., None] * half
    value = exact(**plain)
    error = (4 + groups) * _U * magnitude + _U * value.abs()
    return finished_bound(value, error, nonlinearity, arguments["dtype"], evaluation)


def weight_only_bound(
    x: torch.Tensor, arguments: dict[str, Any], nonlinearity: str, splits: int, dtype: torch.dtype
) -> torch.Tensor:
    """For the operator weight_only_linear: what tadp/kernels/triton/weight_only.py states."""
    _, weight, epilogue, _ = unflatten("weight_only_linear", x, **arguments)
    columns, groups, scale = x.shape[-1], weight.groups, weight.scale
    units = weight._replace(scale=torch.ones(weight.rows))
    steps = reference.dequantize(units, columns, torch.float64).abs() + 1
    factors = scale[:, planes.group_of_columns(columns, groups)] if groups else scale[:, None]
    magnitude = x.double().abs() @ (steps * factors.double().abs()).T
    terms = columns * (3 if x.dtype == torch.float32 else 1)
    value = reference.weight_only_linear(x, weight, epilogue._replace(dtype=torch.float64))
    smallest = torch.finfo(torch.float32).tiny * columns * 2 ** (8 - weight.width)
    error = (terms + groups + splits + 8) * 2 * _U * magnitude + _U * value.abs() + smallest
    return finished_bound(value, error, nonlinearity, dtype)


def plain_bound(
    value: torch.Tensor, activations: Codes, scale: torch.Tensor, bias: torch.Tensor | None, dtype: torch.dtype
) -> torch.Tensor:
    """For the operator linear without groups and nonlinearity: the most by which it may differ from ``value``.

    With P the value before the bias: the integer becomes a float (u), the half
    of z_6 and z_4 is subtracted (u), two scales are multiplied on (2u). Each is at most u * (P + s_a * s_w * |sum(a)|),
    since the integer differs from P by half of sum(a) at most. The bias adds one rounding, the result type its own unit
    roundoff, both relative to the value, or half its smallest step where it is subnormal.

    Args:
        value: in float64, ``(..., rows)``.
        activations: of the product.
        scale: of the weight, ``(rows,)``.
        bias: of the product.
        dtype: of its result.
    """
    scales = (activations.scale.double()[..., None] * scale.double()).abs()
    before_bias = (value - (0 if bias is None else bias.double())).abs()
    before_bias = before_bias + scales * activations.sum.double().abs()[..., None]
    info = torch.finfo(dtype)
    rounding = _U + info.eps / 2
    return 1.01 * (4 * _U * before_bias + rounding * value.abs()) + info.tiny * info.eps


def linear_exact_and_bound(
    activations: Codes, weight: Planes, epilogue: Epilogue, evaluation: int = CPP
) -> tuple[torch.Tensor, torch.Tensor]:
    """The result of the operator linear in float64, and the most by which that of a kernel may differ from it."""
    bias, nonlinearity, dtype = epilogue
    assert dtype is not None
    exact = reference.linear(activations, weight, epilogue._replace(dtype=torch.float64))
    if weight.groups:
        high, mid, low, scale, _ = weight
        arguments = {**activations._asdict(), "high": high, "mid": mid, "low": low, "weight_scale": scale}
        arguments |= {"bias": bias, "dtype": dtype}
        return exact, linear_bound(arguments, nonlinearity, evaluation)
    value = reference.linear(activations, weight, Epilogue(bias, "none", torch.float64))
    error = plain_bound(value, activations, weight.scale, bias, torch.float64)
    return exact, finished_bound(value, error, nonlinearity, dtype, evaluation)


def cpp_weight_only_exact_and_bound(
    x: torch.Tensor, weight: Planes, bias: torch.Tensor | None, nonlinearity: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the operator weight_only_linear: its result in float64, and the most by which that of csrc/cpu may differ.

    However K products and the bias are added up in float32, each takes part in at most K + 2 roundings, of which one
    each for the weight's scale and the bias: (K + 2) * 2^-24 * (sum_k(|x w|) + |bias|). Many tokens take weights that
    were rounded to x's type first, which adds half of its eps relative to every product, and round the result to that
    type before a nonlinearity.
    """
    epilogue = Epilogue(bias, nonlinearity, torch.float64)
    value = reference.weight_only_linear(x, weight, epilogue._replace(nonlinearity="none"))
    restored = reference.dequantize(weight, x.shape[-1], torch.float64)
    size = x.double().abs() @ restored.abs().T + (0 if bias is None else bias.double().abs())
    eps = torch.finfo(x.dtype).eps
    # A restored float16 weight may be subnormal: then it is off by half of the smallest step instead.
    step = torch.finfo(x.dtype).tiny * eps / 2 * x.double().abs().sum(-1, keepdim=True)
    error = 1.01 * ((x.shape[-1] + 2) * _U + eps / 2) * size + step
    if nonlinearity != "none":
        error = error + eps / 2 * value.abs()
    exact = reference.weight_only_linear(x, weight, epilogue)
    return exact, finished_bound(value, error, nonlinearity, x.dtype, CPP)


def dequantized_bound(exact: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Of the operator dequantize.

    The level is exact in float32; the product with the scale rounds once there and once to the result type.
    """
    info = torch.finfo(dtype)
    return 1.01 * (_U + info.eps / 2) * exact.abs() + info.tiny * info.eps

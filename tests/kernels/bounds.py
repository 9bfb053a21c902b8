"""Bounds on what products with groups, nonlinearities and floating activations may be off by; see cases.product_bound.

u = 2^-24 is float32's unit roundoff throughout, and a factor of 1.01 stands for higher orders.
"""

from typing import Any

import torch

from tadp.kernels import planes, reference
from tadp.kernels.operators import unflatten

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

    magnitude = 0
    for group in range(groups):
        scale = torch.zeros_like(arguments["weight_scale"])
        scale[:, group] = arguments["weight_scale"][:, group]
        alone = {**plain, "weight_scale": scale, "bias": None}
        half = arguments["sum"][..., group].double().abs()[..., None] * scale[:, group].double().abs()
        magnitude += exact(**alone).abs() + arguments["scale"].double()[..., None] * half
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

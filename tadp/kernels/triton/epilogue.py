"""What a GPU product does with its sums before it stores them; called from kernels only."""

import triton
import triton.language as tl

from tadp.kernels.formats import FORMATS
from tadp.kernels.triton.unpack import FLIP

_SHIFT_6, _SHIFT_4 = (tl.constexpr(FORMATS[width].shift) for width in (6, 4))
_ZERO_8, _ZERO_6, _ZERO_4 = (tl.constexpr(FORMATS[width].zero) for width in (8, 6, 4))
_HALF_8, _HALF_6, _HALF_4 = (tl.constexpr(FORMATS[width].half) for width in (8, 6, 4))
_FLIP = tl.constexpr(FLIP)


@triton.jit
def integer_value(product, token_sum, width: tl.constexpr):  # type: ignore[no-untyped-def]
    """2^(8-b) * sum(u_b * a) - z_b * sum(a), the half of z_6 and z_4 in float.

    ``product`` is the sum over codes as ``blocks.unpack_codes`` gives them: those of 8 bits are 128 short.
    """
    if width == 8:
        value = (product - (_ZERO_8 - _FLIP) * token_sum).to(tl.float32)
    elif width == 6:
        value = ((product << _SHIFT_6) - _ZERO_6 * token_sum).to(tl.float32) - _HALF_6 * token_sum.to(tl.float32)
    else:
        value = ((product << _SHIFT_4) - _ZERO_4 * token_sum).to(tl.float32) - _HALF_4 * token_sum.to(tl.float32)
    return value


@triton.jit
def integer_value_by_row(product, token_sum, widths):  # type: ignore[no-untyped-def]
    """The same for rows of widths of their own, whose codes were read as ones of 8 bits: 2^(8-b) * u_b - 128.

    Rows of a width other than 8, 6 and 4 give NaN.
    """
    zero = tl.where(widths == 8, _ZERO_8 - _FLIP, tl.where(widths == 6, _ZERO_6 - _FLIP, _ZERO_4 - _FLIP))
    half = tl.where(widths == 8, _HALF_8, tl.where(widths == 6, _HALF_6, tl.where(widths == 4, _HALF_4, float("nan"))))
    return (product - zero[:, None] * token_sum).to(tl.float32) - half[:, None] * token_sum.to(tl.float32)


@triton.jit
def nonlinear(value, nonlinearity: tl.constexpr):  # type: ignore[no-untyped-def]
    """The function of that name in reference.NONLINEARITIES, in float32.

    (1 + tanh(z)) / 2 is 1 / (1 + exp(-2z)), which leaves gelu_tanh and silu with the same shape. Where the exponential
    overflows, the quotient is zero, as it should be.
    """
    if nonlinearity == "gelu":
        value = 0.5 * value * (1.0 + tl.erf(value * 0.7071067811865476))
    elif nonlinearity == "gelu_tanh":
        inner = 1.5957691216057308 * (value + 0.044715 * value * value * value)  # 2 sqrt(2 / pi)
        value = value / (1.0 + tl.exp(-inner))
    elif nonlinearity == "silu":
        value = value / (1.0 + tl.exp(-value))
    return value


@triton.jit
def store_tile(out, value, token, row, tokens, rows):  # type: ignore[no-untyped-def]
    """Round a tile ``(rows, tokens)`` to the type of ``out`` ``(tokens, rows)``, and store what lies inside."""
    place = token.to(tl.int64)[None, :] * rows + row[:, None]
    tl.store(out + place, value.to(out.dtype.element_ty), mask=(token < tokens)[None, :] & (row < rows)[:, None])

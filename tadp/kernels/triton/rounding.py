"""Rounding to narrow types in float32, for Triton's interpreter, which cuts off what a GPU rounds; for kernels."""

import triton
import triton.language as tl


@triton.jit
def round_to_float8(x):  # type: ignore[no-untyped-def]
    """x, of magnitude up to 448, as e4m3 has it: three bits after the leading one, in steps of 2^-9 at least."""
    leading = (x.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    step = tl.maximum(leading, 0.015625) * 0.125
    return ((x / step + 12582912.0) - 12582912.0) * step


@triton.jit
def round_to_bfloat16(x):  # type: ignore[no-untyped-def]
    """X as bfloat16 has it."""
    bits = x.to(tl.uint32, bitcast=True)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).to(tl.float32, bitcast=True)
    return tl.where(x == x, rounded, x)


@triton.jit
def to_float8(x, interpreted: tl.constexpr):  # type: ignore[no-untyped-def]
    """x, of magnitude up to 448, in e4m3."""
    if interpreted:
        x = round_to_float8(x)
    return x.to(tl.float8e4nv)

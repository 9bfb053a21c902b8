"""Rotation of columns by Hadamard matrices, which spreads outliers over their neighbours before values are rounded.

A weight W and an activation x are both multiplied by one orthogonal matrix H, so that ``(x H) (W H)^T = x W^T`` holds
before anything is rounded (QuaRot, arXiv 2404.00456). H is the regular Hadamard matrix of ConvRot (arXiv 2512.03673),
as ComfyUI's files have it: Kronecker powers of

    1  1  1 -1
    1  1 -1  1
    1 -1  1  1
   -1  1  1  1

divided by the square root of their size, for runs of so many neighbouring columns. All its rows have equal sums, so
that a mean of all channels, such as a GELU leaves, stays spread, where the common Hadamard matrix gathers it in one
channel. It is symmetric, hence its own inverse. The sizes are powers of four, so that the division is exact.
"""

import math

import torch

SIZES = (256, 64)
"""Columns that one rotation mixes; the first that divides a row is taken."""


def size_for(columns: int) -> int:
    """The size of the rotations that a row of so many columns may have; 0 where none divides it."""
    return next((size for size in SIZES if columns and columns % size == 0), 0)


def matrix(size: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> torch.Tensor:
    """H: ``(size, size)``; its elements are plus and minus a power of two, which every floating type holds.

    Raises:
        ValueError: for a size that is no power of four.
    """
    if size not in (4, 16, 64, 256):
        raise ValueError(f"a rotation mixes a power of four columns, from 4 to 256, not {size}")
    place = torch.arange(size, device=device)
    # An element of the matrix above is negative where row and column add up to three, that is, where both bits differ;
    # one of its power is where an odd number of base-four digits do so. Said by bits, it is one kernel of a graph.
    apart = place[:, None] ^ place
    threes = apart & (apart >> 1) & 0b01010101
    parity = (threes ^ threes >> 2 ^ threes >> 4 ^ threes >> 6) & 1
    return (1 - 2 * parity).to(dtype) / math.sqrt(size)


def rotate(x: torch.Tensor, size: int) -> torch.Tensor:
    """Multiply each run of `size` columns by H, in the order of float32 additions that defines its bits.

    Args:
        x: ``(..., columns)``, floating; float64 is rotated in float64, everything else in float32.
        size: columns of a run, see `SIZES`; 0 leaves x as it is, but for its type.

    Returns:
        As x, float32 or float64.
    """
    found = x if x.dtype == torch.float64 else x.float()
    if size == 0 or x.numel() == 0:
        return found
    found = found / math.sqrt(size)  # a power of two, before anything is added: large numbers stay finite
    stride = 1
    while stride < size:
        first, second, third, fourth = found.unflatten(-1, (-1, 4, stride)).unbind(-2)
        total = (first + third) + (second + fourth)
        turned = [total - 2 * part for part in (fourth, third, second, first)]
        found = torch.stack(turned, -2).flatten(-3)
        stride *= 4
    return found


def rotate_by_product(x: torch.Tensor, size: int) -> torch.Tensor:
    """The same as one matrix product in x's own type, rounded to it: what GPUs do fast, and compilers see through."""
    return (x.unflatten(-1, (-1, size)) @ matrix(size, x.dtype, x.device)).flatten(-2)

"""Which width every output channel of a model gets at a mixed level."""

from collections.abc import Mapping

import torch

WIDTHS = (4, 6, 8)


def channel_widths(
    errors: Mapping[str, Mapping[int, torch.Tensor]], columns: Mapping[str, int], average: float
) -> dict[str, torch.Tensor]:
    """The widths of least total error with `average` bits a weight at most.

    Every channel starts at 4 bits; then those that gain most error a bit get two more, or four where the second two
    gain more than the first. That is the optimum but for the one channel that the last bits do not suffice for
    (Dyer 1984, "An O(n) algorithm for the multiple-choice knapsack linear program").

    Args:
        errors: by layer and width of 4, 6 and 8 bits, what each channel alone adds to the squared error: ``(rows,)``.
        columns: inputs of each layer.
        average: between 4 and 8.

    Returns:
        By layer, ``(rows,)`` uint8.

    Raises:
        ValueError: for another average.
    """
    if not 4 <= average <= 8:
        raise ValueError(f"output channels have 4 to 8 bits on average, not {average}")
    if not errors:
        return {}
    at_4, at_6, at_8 = (torch.cat([found[width] for found in errors.values()]).double() for width in WIDTHS)
    weights = torch.cat([torch.full_like(found[4], columns[layer]) for layer, found in errors.items()]).double()
    first, second = (at_4 - at_6) / weights, (at_6 - at_8) / weights
    both = torch.where(second > first, (first + second) / 2, torch.nan)
    first, second = both.where(~both.isnan(), first), both.where(~both.isnan(), second)
    # Stable, so that of equal gains the first two bits of a channel come before its next two.
    order = torch.cat([first, second]).argsort(descending=True, stable=True)
    spent = (2 * weights.repeat(2))[order].cumsum(0)
    taken = torch.zeros(len(order), dtype=torch.bool)
    taken[order[spent <= (average - 4) * weights.sum() * (1 + 1e-12)]] = True
    widths = (4 + 2 * taken.view(2, -1).sum(0)).to(torch.uint8)
    return dict(zip(errors, widths.split([len(found[4]) for found in errors.values()]), strict=True))

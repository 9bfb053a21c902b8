"""Factors that move difficulty between activations and weights, channel by channel: ``x / S`` and ``S W``.

SmoothQuant (Xiao et al., arXiv 2211.10438, section 4): ``S = peak(x)^alpha / peak(W)^(1 - alpha)`` for every input
channel. ViDiT-Q (arXiv 2406.02540, section 3.3) takes other factors for other ranges of timesteps.
"""

import torch

from tadp.kernels.planes import group_of_columns

_SMALLEST = 1e-5  # of a peak, as a share of the largest: channels that hold next to nothing keep a finite factor


def balance(peaks: torch.Tensor, weight: torch.Tensor, alpha: float = 0.5) -> torch.Tensor:
    """One factor for every input channel; 1 for all where `alpha` is 0 and the weight is even.

    Args:
        peaks: ``(columns,)``, the largest absolute value of each input channel.
        weight: ``(rows, columns)``.
        alpha: in [0, 1]: how much of the activations' difficulty goes into the weight.

    Returns:
        ``(columns,)`` float32, above 0, with a geometric mean of 1: a common factor changes nothing.

    Raises:
        ValueError: for another shape or alpha.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be between 0 and 1, got {alpha}")
    if peaks.shape != weight.shape[1:]:
        raise ValueError(f"peaks must be ({weight.shape[1]},) for this weight, got {tuple(peaks.shape)}")
    logarithms = alpha * _log(peaks) - (1 - alpha) * _log(weight.abs().amax(0))
    return (logarithms - logarithms.mean()).exp()


def by_group(factors: torch.Tensor, reference: torch.Tensor, groups: int) -> torch.Tensor:
    """The factors of a range of timesteps, as far as scales of a stored weight can follow them.

    The weight is stored with the factors `reference` folded in. A range may scale each group of columns by one number,
    which moves into the scales of the groups; within a group the stored factors stay.

    Args:
        factors: ``(columns,)``, those wished for.
        reference: likewise, those folded in.
        groups: of columns that share a scale, see `tadp.kernels.planes.group_of_columns`.
    """
    owners = group_of_columns(len(factors), groups)
    ratio = (factors / reference).log()
    sums = torch.zeros(groups).index_add_(0, owners, ratio)
    counts = torch.zeros(groups).index_add_(0, owners, torch.ones_like(ratio))
    return reference * (sums / counts).exp()[owners]


def _log(peaks: torch.Tensor) -> torch.Tensor:
    peaks = peaks.float()
    return peaks.clamp(min=float(peaks.max()) * _SMALLEST or 1.0).log()

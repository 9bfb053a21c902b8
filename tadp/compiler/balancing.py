"""Factors that move difficulty between activations and weights, channel by channel: ``x / S`` and ``S W``.

SmoothQuant (Xiao et al., arXiv 2211.10438, section 4): ``S = peak(x)^alpha / peak(W)^(1 - alpha)`` for every input
channel. ViDiT-Q (arXiv 2406.02540, section 3.3) takes other factors for other ranges of timesteps.
"""

from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Balancing:
    """How the channels of a model are balanced, alike in all timesteps.

    Attributes:
        peaks: the largest absolute value of every input channel, by layer: ``(stages, columns)``.
        alpha: see `balance`.

    Raises:
        ValueError: for an alpha outside [0, 1], or without peaks.
    """

    peaks: Mapping[str, torch.Tensor]
    alpha: float

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"balance must be between 0 and 1, got {self.alpha}")
        if not self.peaks:
            raise ValueError(
                "balancing channels needs their largest values, which calibration measures: run `tadp calibrate` and "
                "pass its file, with the .safetensors beside it, to tadp.compile as calibration=..."
            )

    def factors(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the activations of each layer are multiplied by, ``(columns,)`` float32; 1 for layers without peaks.

        Layers with equal peaks read the same input, and get the same factors: it is quantized once for all of them.
        """
        readers: dict[bytes, list[str]] = {}
        found: dict[str, torch.Tensor] = {}
        for layer, weight in weights.items():
            if layer in self.peaks:
                readers.setdefault(self.peaks[layer].numpy().tobytes(), []).append(layer)
            else:
                found[layer] = torch.ones(weight.shape[1], device=weight.device)
        for layers in readers.values():
            peaks = self.peaks[layers[0]].amax(0)
            largest = torch.stack([weights[layer].detach().float().abs().amax(0) for layer in layers])
            shared = 1 / balance(peaks.to(largest.device), largest, self.alpha)
            found |= dict.fromkeys(layers, shared)
        return found


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

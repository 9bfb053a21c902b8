"""What the prompt adds to a prediction: the difference between the two branches of classifier-free guidance.

Noise that both branches predict alike cancels in it; what is left is the content that the prompt asks for, long before
a clip shows it.
"""

from typing import Any

import torch

_FRAMES = 2  # the dimension of frames in (batch, channels, frames, height, width)


def guidance_measure(conditional: torch.Tensor, unconditional: torch.Tensor) -> torch.Tensor:
    """Size, spread and motion of the difference between the predictions with and without the prompt, per sample.

    With d the difference and e its energy at each position, summed over channels:

    * gap: ``|d| / |unconditional|``, at least 0: how much the prompt changes.
    * spread: ``(sum e)^2 / (n sum e^2)``, in (0, 1], over n positions: in how much of the clip; the participation ratio
      of Bell and Dean 1970, "Atomic vibrations in vitreous silica".
    * motion: ``|d's changes from frame to frame| / |d|``, in [0, 2]: how fast. Videos only.

    Args:
        conditional: ``(batch, channels, frames, height, width)``, ``(batch, channels, height, width)`` or ``(batch,
            tokens, channels)``.
        unconditional: likewise.

    Returns:
        ``(batch, 3)``, or ``(batch, 2)`` for what is no video. Not finite where a norm in a denominator is 0.
    """
    ours, theirs = conditional.detach().float(), unconditional.detach().float()
    difference = ours - theirs
    size = difference.flatten(1).norm(dim=1)
    energy = difference.square().sum(dim=-1 if difference.dim() == 3 else 1).flatten(1)
    gap = size / theirs.flatten(1).norm(dim=1)
    spread = energy.sum(1).square() / (energy.shape[1] * energy.square().sum(1))
    if difference.dim() != 5 or difference.shape[_FRAMES] < 2:
        return torch.stack([gap, spread], dim=1)
    motion = difference.diff(dim=_FRAMES).flatten(1).norm(dim=1) / size
    return torch.stack([gap, spread, motion], dim=1)


def prediction_of(result: Any) -> torch.Tensor | None:
    """The prediction in what a model's forward returned: a tensor, a tuple that begins with one, or ``.sample``."""
    first = result[0] if isinstance(result, (tuple, list)) and result else getattr(result, "sample", result)
    return first if isinstance(first, torch.Tensor) and first.dim() >= 3 else None

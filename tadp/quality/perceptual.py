"""How different a clip looks from a reference clip of the same seed: LPIPS through torchmetrics.

Needs torchvision and AlexNet's weights on this machine; nothing is downloaded. `missing` says what there is to do.
"""

import importlib.util
from pathlib import Path

import numpy as np
import torch

from tadp.quality.fidelity import image_metrics, pair

LPIPS_SIDE = 31
"""Pixels a side of the smallest frame that AlexNet's poolings leave something of."""


def lpips(clip: torch.Tensor | np.ndarray, reference: torch.Tensor | np.ndarray) -> float:
    """Learned perceptual distance, the mean over frames; 0 for identical clips, about 1 for unrelated ones.

    Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric", with AlexNet.

    Args:
        clip: ``(frames, height, width, 3)`` in [0, 1].
        reference: likewise.

    Raises:
        ValueError: if the shapes differ, one is no clip in [0, 1], or frames are smaller than 31 pixels.
        FileNotFoundError: without torchvision or AlexNet's weights.
    """
    ours, theirs = pair(clip, reference)
    if min(ours.shape[1:3]) < LPIPS_SIDE:
        raise ValueError(f"LPIPS needs frames of at least {LPIPS_SIDE} pixels a side, got {tuple(ours.shape[1:3])}")
    if problem := missing():
        raise FileNotFoundError(f"LPIPS {problem}")
    frames, references = ours.permute(0, 3, 1, 2), theirs.permute(0, 3, 1, 2)
    measure = image_metrics().learned_perceptual_image_patch_similarity
    return float(measure(frames, references, net_type="alex", normalize=True))


def missing() -> str | None:
    """What LPIPS lacks on this machine, with the way to it; None where it can be measured."""
    if importlib.util.find_spec("torchvision") is None:
        return "needs torchvision: pip install torchvision, of the release that goes with this torch"
    from torchvision.models import AlexNet_Weights

    url = AlexNet_Weights.DEFAULT.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    return None if path.exists() else f"needs the weights of AlexNet: save {url} as {path}"

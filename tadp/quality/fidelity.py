"""How close a clip is to a reference clip of the same seed: PSNR, SSIM and MS-SSIM through torchmetrics.

Clips are ``(frames, height, width, 3)`` in [0, 1], tensors or arrays.
"""

from typing import Any

import numpy as np
import torch

from tadp.extras import need
from tadp.quality.clips import as_clip

SSIM_WINDOW = 11
"""Pixels a side of the gaussian window of the paper: smaller frames have no structural similarity."""
MS_SSIM_SIDE = SSIM_WINDOW * 2**4
"""Likewise for MS-SSIM: the window at the fifth scale, where a pixel is 16 of the frame's."""


def psnr(clip: torch.Tensor | np.ndarray, reference: torch.Tensor | np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, over all frames together; inf for identical clips.

    ``10 log10(1 / mean((clip - reference)^2))``.

    Raises:
        ValueError: if the shapes differ or one is no clip in [0, 1].
    """
    ours, theirs = pair(clip, reference)
    return float(image_metrics().peak_signal_noise_ratio(ours, theirs, data_range=1.0))


def ssim(clip: torch.Tensor | np.ndarray, reference: torch.Tensor | np.ndarray) -> float:
    """Structural similarity, the mean over frames; 1 for identical clips.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", with their gaussian
    window of 11 pixels.

    Raises:
        ValueError: if the shapes differ, one is no clip in [0, 1], or frames are smaller than the window.
    """
    ours, theirs = pair(clip, reference)
    if min(ours.shape[1:3]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs frames of at least {SSIM_WINDOW} pixels a side, got {tuple(ours.shape[1:3])}")
    frames, references = ours.permute(0, 3, 1, 2), theirs.permute(0, 3, 1, 2)
    return float(image_metrics().structural_similarity_index_measure(frames, references, data_range=1.0))


def ms_ssim(clip: torch.Tensor | np.ndarray, reference: torch.Tensor | np.ndarray) -> float:
    """Structural similarity at five scales, the mean over frames; 1 for identical clips.

    Wang et al. 2003, "Multiscale structural similarity for image quality assessment", with their weights of scales.

    Raises:
        ValueError: if the shapes differ, one is no clip in [0, 1], or frames are smaller than 176 pixels.
    """
    ours, theirs = pair(clip, reference)
    if min(ours.shape[1:3]) < MS_SSIM_SIDE:
        raise ValueError(f"MS-SSIM needs frames of at least {MS_SSIM_SIDE} pixels a side, got {tuple(ours.shape[1:3])}")
    frames, references = ours.permute(0, 3, 1, 2), theirs.permute(0, 3, 1, 2)
    measure = image_metrics().multiscale_structural_similarity_index_measure
    return float(measure(frames, references, data_range=1.0, normalize="relu"))


def image_metrics() -> Any:
    """Torchmetrics' measures of images, imported when they are first needed.

    Raises:
        MissingExtraError: without torchmetrics.
    """
    return need("torchmetrics.functional.image", "quality", "PSNR, SSIM and LPIPS need torchmetrics")


def pair(clip: torch.Tensor | np.ndarray, reference: torch.Tensor | np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as float32 tensors on one device.

    Raises:
        ValueError: if the shapes differ or one is no clip in [0, 1].
    """
    ours, theirs = as_clip(clip), as_clip(reference, "reference")
    if ours.shape != theirs.shape:
        raise ValueError(f"clip and reference must have one shape, got {tuple(ours.shape)} and {tuple(theirs.shape)}")
    return ours, theirs.to(ours.device)

"""How far many clips are, as a whole, from many reference clips: the Fréchet video distance."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import interpolate

from tadp.quality.clips import as_clip

_SIDE = 224  # pixels of the frames that I3D was trained on
_FEWEST_FRAMES = 9  # that I3D's poolings over time leave something of


def frechet_distance(features: torch.Tensor, references: torch.Tensor) -> float:
    """Squared Fréchet distance of the normal distributions with the means and covariances of two sets of features.

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2))``: Dowson and Landau 1982, "The Fréchet distance
    between multivariate normal distributions".

    Args:
        features: ``(samples, features)``, two samples or more.
        references: likewise; the numbers of samples may differ.

    Raises:
        ValueError: for other shapes.
    """
    if features.ndim != 2 or references.ndim != 2 or features.shape[1] != references.shape[1]:
        shapes = f"{tuple(features.shape)} and {tuple(references.shape)}"
        raise ValueError(f"features must be (samples, features) of one length, got {shapes}")
    if min(len(features), len(references)) < 2:
        raise ValueError(f"a covariance needs two samples or more, got {len(features)} and {len(references)}")
    ours, theirs = features.double(), references.double()
    first, second = (torch.atleast_2d(torch.cov(found.T)) for found in (ours, theirs))
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    distance = (ours.mean(0) - theirs.mean(0)).square().sum() + first.trace() + second.trace() - 2 * shared
    return max(distance.item(), 0.0)


def frechet_video_distance(
    clips: Sequence[torch.Tensor | np.ndarray], references: Sequence[torch.Tensor | np.ndarray], detector: Path
) -> float:
    """Fréchet distance of what an I3D network sees in clips; 0 where it sees the same.

    Unterthiner et al. 2018, "Towards accurate generative models of video". With fewer clips than the network has
    features, some hundreds, only distances over equally many clips compare.

    Args:
        clips: each ``(frames, height, width, 3)`` in [0, 1], nine frames or more.
        references: likewise.
        detector: the I3D network as TorchScript, ``i3d_torchscript.pt``, which is called with
            ``(1, 3, frames, 224, 224)`` in [-1, 1] and ``rescale=False, resize=False, return_features=True``.

    Raises:
        ValueError: if one is no such clip, or there are fewer than two of either.
        FileNotFoundError: without the network; nothing is downloaded.
    """
    if not detector.exists():
        raise FileNotFoundError(
            f"no I3D network at {detector}; fetch i3d_torchscript.pt, to which "
            "https://github.com/universome/fvd-comparison links, and name it"
        )
    network = torch.jit.load(str(detector)).eval()
    return frechet_distance(_seen(network, clips), _seen(network, references))


@torch.no_grad()
def _seen(network: torch.nn.Module, clips: Iterable[torch.Tensor | np.ndarray]) -> torch.Tensor:
    """Features of clips, ``(clips, features)``."""
    found = []
    for clip in clips:
        frames = as_clip(clip).permute(0, 3, 1, 2)
        if len(frames) < _FEWEST_FRAMES:
            raise ValueError(f"I3D needs clips of {_FEWEST_FRAMES} frames or more, got {len(frames)}")
        resized = interpolate(frames, size=(_SIDE, _SIDE), mode="bilinear", align_corners=False)
        video = resized.transpose(0, 1)[None] * 2 - 1
        found.append(network(video, rescale=False, resize=False, return_features=True).flatten())
    return torch.stack(found) if found else torch.empty(0, 0)

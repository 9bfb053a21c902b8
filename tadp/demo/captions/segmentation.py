"""Cut a clip into one soft mask a colour, and follow each of them through the frames.

Backgrounds are nearly grey, so a pixel that a shape covers by the fraction ``a`` has ``a`` times the chroma of the
shape's colour (chroma: RGB minus its own mean): the hue names the colour, the length gives the coverage, also on the
soft edges that a small generative model leaves. White has no chroma and is told by brightness.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import max_pool2d

from tadp.demo.captions.vocabulary import COLORS

_NOISE = 0.25  # coverage below this is background texture or colour noise
_DULLEST = 0.6  # a generated shape may have this share of its colour's chroma and still counts as wholly covered
_MIN_CORE = 0.002  # of the frame: the part of a mask that survives an erosion, below which no shape is seen
_MIN_FRAMES = 0.25  # of the frames in which a shape must be seen


@dataclass(frozen=True)
class Track:
    """One colour followed through a clip.

    Attributes:
        color: its name.
        coverage: ``(frames, height, width)``, how much of each pixel the shape covers, in [0, 1].
        center: ``(frames, 2)``, centroid x and y (downwards) as fractions of width and height.
        radius: ``(frames,)``, radius of the circle of equal area, as a fraction of the frame's side.
        trust: ``(frames,)``, in [0, 1]; 0 where the shape is not seen, small where another shape or the frame's edge
            touches it and may hide a part.
    """

    color: str
    coverage: torch.Tensor
    center: torch.Tensor
    radius: torch.Tensor
    trust: torch.Tensor


def segment(clip: torch.Tensor) -> tuple[Track, ...]:
    """Tracks of the colours that a clip shows; several shapes of one colour are one track.

    Args:
        clip: ``(frames, height, width, 3)`` RGB in [0, 1].
    """
    coverage = _coverage(clip.float())
    mask = coverage > 0.5
    core = ~_dilate(~mask)
    seen = core.flatten(2).sum(dim=2) >= max(4, _MIN_CORE * clip.shape[1] * clip.shape[2])
    found = seen.sum(dim=1) >= max(1, _MIN_FRAMES * clip.shape[0])
    # Thin rims, where the blend of two shapes has the hue of a third, have no core and go with it.
    near = _dilate(_dilate(core))
    coverage = coverage * near
    mask = mask & near
    tracks = []
    for index, color in enumerate(COLORS):
        if found[index]:
            others = (mask & found[:, None, None, None])[torch.arange(len(COLORS)) != index].any(dim=0)
            tracks.append(_track(color, coverage[index], mask[index], others, seen[index]))
    return tuple(tracks)


def _coverage(clip: torch.Tensor) -> torch.Tensor:
    """``(colors, frames, height, width)`` in [0, 1]: each pixel counts for the colour whose hue is nearest."""
    colors = torch.tensor(list(COLORS.values()), device=clip.device) / 255.0
    chroma = colors - colors.mean(dim=1, keepdim=True)
    length = chroma.norm(dim=1)
    gray = length < 0.05
    pixel = clip - clip.mean(dim=3, keepdim=True)
    along = torch.einsum("fhwc,kc->kfhw", pixel, chroma / length.clamp(min=1e-6)[:, None])
    along[gray] = 0.0
    winner = along == along.amax(dim=0, keepdim=True)
    coverage = torch.where(winner, along / length.clamp(min=1e-6)[:, None, None, None], 0.0)
    darkest = clip.amin(dim=3)
    empty = coverage.amax(dim=0) < _NOISE
    for index in torch.nonzero(gray).flatten().tolist():
        bright = colors[index].min()
        background = darkest[empty & (darkest < 0.7 * bright)]
        floor = background.median() if background.numel() else darkest.new_zeros(())
        # The background's texture reaches a third of the way from its median to white.
        coverage[index] = ((darkest - floor) / (bright - floor)).where(empty, torch.zeros_like(darkest))
        coverage[index][coverage[index] < 0.36] = 0.0
    coverage[coverage < _NOISE] = 0.0
    for soft in coverage:
        inside = soft[soft > 0]
        if inside.numel():
            soft /= inside.quantile(0.95).clamp(_DULLEST, 1.0)
    return coverage.clamp(0.0, 1.0)


def _track(color: str, coverage: torch.Tensor, mask: torch.Tensor, others: torch.Tensor, seen: torch.Tensor) -> Track:
    frames, height, width = coverage.shape
    area = coverage.sum(dim=(1, 2))
    x = (torch.arange(width, device=coverage.device) + 0.5) / width
    y = (torch.arange(height, device=coverage.device) + 0.5) / height
    safe = area.clamp(min=1e-6)
    center = torch.stack([(coverage.sum(dim=1) * x).sum(dim=1), (coverage.sum(dim=2) * y).sum(dim=1)], dim=1)
    outside = torch.ones(frames, height + 2, width + 2, dtype=torch.bool, device=coverage.device)
    outside[:, 1:-1, 1:-1] = others
    framed = torch.zeros_like(outside)
    framed[:, 1:-1, 1:-1] = mask
    ring = _dilate(framed[None])[0] & ~framed
    touched = (ring & outside).sum(dim=(1, 2)) / ring.sum(dim=(1, 2)).clamp(min=1)
    return Track(
        color=color,
        coverage=coverage,
        center=center / safe[:, None],
        radius=(area / torch.pi / (height * width)).sqrt(),
        trust=(1.0 - 3.0 * touched).clamp(0.05, 1.0) * seen,
    )


def _dilate(mask: torch.Tensor) -> torch.Tensor:
    """Grow ``(..., frames, height, width)`` by one pixel in all eight directions."""
    return max_pool2d(mask.float(), kernel_size=3, stride=1, padding=1) > 0.5

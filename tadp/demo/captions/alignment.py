"""Whether a clip shows what its caption asked for, found in the pixels without any network.

Works for captions of a closed vocabulary (:mod:`tadp.demo.captions.vocabulary`): coloured shapes that move over nearly
grey backgrounds. Shapes are told apart by colour, so a caption should give each its own.
"""

import re
from dataclasses import dataclass

import numpy as np
import torch

from tadp.demo.captions.motion import motions_of
from tadp.demo.captions.segmentation import segment
from tadp.demo.captions.shape import shape_of
from tadp.demo.captions.vocabulary import COLORS, MOTIONS, SHAPES
from tadp.quality.clips import as_clip

_MOTION = "|".join(MOTIONS)
_OBJECT = re.compile(
    rf"\b(?P<color>{'|'.join(COLORS)})\s+(?P<shape>{'|'.join(SHAPES)})\b"
    rf"(?:\s+(?P<motions>(?:{_MOTION})(?:,?\s+then\s+(?:{_MOTION}))*)\b)?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Expected:
    """A shape that a caption asks for; no motions where it leaves them open."""

    color: str
    shape: str
    motions: tuple[str, ...]


@dataclass(frozen=True)
class Detected:
    """A shape that a clip shows, with one motion or two in turn."""

    color: str
    shape: str
    motions: tuple[str, ...]


@dataclass(frozen=True)
class AlignmentScore:
    """Fractions, in [0, 1], of the asked objects.

    Attributes:
        color: whose colour is seen.
        shape: whose colour is seen in the asked shape.
        motion: whose colour moves as asked; of two motions in turn each counts half. 1 if none were asked.
        count: the smaller over the larger of the asked and the seen number of colours.
    """

    color: float
    shape: float
    motion: float
    count: float


def parse_caption(caption: str) -> tuple[Expected, ...]:
    """The objects that a caption of the closed vocabulary asks for, in its order.

    Raises:
        ValueError: if it names none.
    """
    found = []
    for match in _OBJECT.finditer(caption):
        motions = re.split(r",?\s+then\s+", match["motions"].lower()) if match["motions"] else ()
        found.append(Expected(match["color"].lower(), match["shape"].lower(), tuple(motions)))
    if not found:
        raise ValueError(
            f"the caption {caption[:80]!r} names no object that can be looked for; "
            f"colours: {', '.join(COLORS)}; shapes: {', '.join(SHAPES)}; motions: {', '.join(MOTIONS)}"
        )
    return tuple(found)


def detect(clip: torch.Tensor | np.ndarray) -> tuple[Detected, ...]:
    """What a clip shows, one object a colour, in the vocabulary's order of colours.

    Args:
        clip: ``(frames, height, width, 3)`` in [0, 1].

    Raises:
        ValueError: if it has another shape or range.
    """
    tracks = segment(as_clip(clip).cpu())
    return tuple(Detected(track.color, shape_of(track), motions_of(track)) for track in tracks)


def alignment(clip: torch.Tensor | np.ndarray, caption: str) -> AlignmentScore:
    """Compare a clip with its caption.

    Args:
        clip: ``(frames, height, width, 3)`` in [0, 1].
        caption: in the words of the closed vocabulary.

    Raises:
        ValueError: if the clip has another shape or range, or the caption names no object.
    """
    return compare(detect(clip), parse_caption(caption))


def compare(detected: tuple[Detected, ...], expected: tuple[Expected, ...]) -> AlignmentScore:
    """Score what was seen against what was asked, colour by colour.

    Raises:
        ValueError: if nothing was asked.
    """
    if not expected:
        raise ValueError("nothing was asked, so nothing can be compared")
    seen = {item.color: item for item in detected}
    moving = [item for item in expected if item.motions]
    asked = {item.color for item in expected}
    return AlignmentScore(
        color=sum(item.color in seen for item in expected) / len(expected),
        shape=sum(item.color in seen and seen[item.color].shape == item.shape for item in expected) / len(expected),
        motion=sum(_agreement(seen.get(item.color), item) for item in moving) / len(moving) if moving else 1.0,
        count=min(len(seen), len(asked)) / max(len(seen), len(asked)),
    )


def _agreement(seen: Detected | None, asked: Expected) -> float:
    if seen is None:
        return 0.0
    turns = max(len(seen.motions), len(asked.motions))
    return sum(ours == theirs for ours, theirs in zip(seen.motions, asked.motions, strict=False)) / turns

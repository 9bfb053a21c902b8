"""Scenes of moving shapes: what they hold, how they are captioned, how they are drawn at random from a seed."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tadp.demo.captions.vocabulary import BOUNCE_HEIGHT as _BOUNCE_HEIGHT
from tadp.demo.captions.vocabulary import COLORS as COLORS
from tadp.demo.captions.vocabulary import GROWTH as _GROWTH
from tadp.demo.captions.vocabulary import MOTIONS as MOTIONS
from tadp.demo.captions.vocabulary import ORBIT_RADIUS as _ORBIT_RADIUS
from tadp.demo.captions.vocabulary import RADII as RADII
from tadp.demo.captions.vocabulary import SHAPES as SHAPES
from tadp.demo.captions.vocabulary import TRAVEL as _TRAVEL

BACKGROUNDS = ("black", "gray", "striped", "checkered", "noisy")

MAX_OBJECTS = 5


@dataclass(frozen=True)
class SceneObject:
    """One shape: its looks, where it starts (fractions of the frame, y downwards) and one or two motions in turn."""

    color: str
    shape: str
    size: str
    motions: tuple[str, ...]
    start: tuple[float, float]
    phase: float

    @property
    def caption(self) -> str:
        looks = " ".join(word for word in (self.size, self.color, self.shape) if word)
        article = "an" if looks[0] in "aeiou" else "a"
        return f"{article} {looks} {', then '.join(self.motions)}"


@dataclass(frozen=True)
class Scene:
    """A clip's content: shapes (drawn in order, later ones in front) over a background; `seed` fixes its texture."""

    objects: tuple[SceneObject, ...]
    background: str
    seed: int

    @property
    def caption(self) -> str:
        parts = [item.caption for item in self.objects]
        joined = parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
        return f"{joined} on a {self.background} background"


def trajectory(item: SceneObject, num_frames: int) -> np.ndarray:
    """Centre and radius of a shape in every frame, as fractions of the frame's side.

    Returns:
        ``(num_frames, 3)`` array of x, y, radius.
    """
    return np.array(item.start + (0.0,)) + _displacement(item.motions, RADII[item.size], item.phase, num_frames)


def sample_scene(seed: int, num_objects: int | None = None) -> Scene:
    """Draw a scene at random; simple ones are more frequent unless `num_objects` (1 to 5) is given.

    Raises:
        ValueError: if `num_objects` is not between 1 and 5.
    """
    if num_objects is not None and not 1 <= num_objects <= MAX_OBJECTS:
        raise ValueError(f"num_objects must be between 1 and {MAX_OBJECTS}, got {num_objects}")
    rng = random.Random(seed)
    count = num_objects or rng.choices(range(1, MAX_OBJECTS + 1), weights=(8, 4, 3, 3, 2))[0]
    colors = rng.sample(sorted(COLORS), count)
    objects: list[SceneObject] = []
    for color in colors:
        motions: tuple[str, ...] = (rng.choice(MOTIONS),)
        if count <= 2 and rng.random() < 0.25:
            motions += (rng.choice([motion for motion in MOTIONS if motion != motions[0]]),)
        size = rng.choice(sorted(RADII))
        phase = rng.random() * 2 * math.pi
        start = _roomiest_start(rng, motions, size, phase, objects)
        objects.append(SceneObject(color, rng.choice(SHAPES), size, motions, start, phase))
    return Scene(tuple(objects), rng.choice(BACKGROUNDS), rng.randrange(2**31))


def _roomiest_start(
    rng: random.Random, motions: tuple[str, ...], size: str, phase: float, others: Sequence[SceneObject]
) -> tuple[float, float]:
    """Of a few starts that keep the whole path inside the frame, the one that overlaps the others least."""
    path = _displacement(motions, RADII[size], phase, 9)
    margin = path[:, 2].max() * 0.8
    low = np.clip(margin - path[:, :2].min(axis=0), 0.05, 0.95)
    high = np.clip(1 - margin - path[:, :2].max(axis=0), 0.05, 0.95)
    spans = [sorted((low[axis], high[axis])) for axis in (0, 1)]
    candidates = [(rng.uniform(*spans[0]), rng.uniform(*spans[1])) for _ in range(12)]
    if not others:
        return candidates[0]
    taken = np.stack([trajectory(other, 9)[:, :2] for other in others])

    def clearance(start: tuple[float, float]) -> float:
        return float(np.linalg.norm(taken - (path[:, :2] + start), axis=-1).min())

    return max(candidates, key=clearance)


def _displacement(motions: tuple[str, ...], radius: float, phase: float, num_frames: int) -> np.ndarray:
    """Path relative to the start, ``(num_frames, 3)``; motions share the clip's time equally."""
    time = np.linspace(0.0, 1.0, num_frames)
    share = 1.0 / len(motions)
    path = np.zeros((num_frames, 3))
    path[:, 2] = radius
    for index, motion in enumerate(motions):
        spent = np.clip(time - index * share, 0.0, share)
        path += _motion(motion, spent, radius, phase)
    return path


def _motion(motion: str, spent: np.ndarray, radius: float, phase: float) -> np.ndarray:
    """What a motion adds to x, y and radius after `spent` of a whole clip's time."""
    path = np.zeros((len(spent), 3))
    match motion:
        case "moves left":
            path[:, 0] = -_TRAVEL * spent
        case "moves right":
            path[:, 0] = _TRAVEL * spent
        case "moves up":
            path[:, 1] = -_TRAVEL * spent
        case "moves down":
            path[:, 1] = _TRAVEL * spent
        case "bounces":
            path[:, 1] = -_BOUNCE_HEIGHT * np.abs(np.sin(2 * np.pi * spent))
        case "orbits":
            angle = phase + 2 * np.pi * spent
            path[:, 0] = _ORBIT_RADIUS * (np.cos(angle) - math.cos(phase))
            path[:, 1] = _ORBIT_RADIUS * (np.sin(angle) - math.sin(phase))
        case "grows":
            path[:, 2] = _GROWTH * radius * spent
        case "stands still":
            pass
        case _:
            raise ValueError(f"unknown motion {motion!r}, expected one of {MOTIONS}")
    return path

"""Name the motions of a track by fitting every motion's path, and every change of motion halfway, to it.

The path of a motion is linear in its unknowns (start, way, orbit's two components), so each candidate is one small
least-squares fit; Cauchy weights (Holland and Welsch 1977, "Robust regression using iteratively reweighted
least-squares") keep frames in which another shape hides a part from bending it. The candidate with the smallest robust
error wins, after a charge for each unknown, if its ways are near those that the vocabulary fixes.
"""

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np

from tadp.demo.captions.segmentation import Track
from tadp.demo.captions.vocabulary import BOUNCE_HEIGHT, GROWTH, MOTIONS, ORBIT_RADIUS, TRAVEL

_ERROR = 0.010  # of the frame's side: what centroid and radius may be off without meaning anything
_CHARGE = 2.0  # per unknown; half of ln(51) is what BIC charges for 17 frames of x, y and radius
_STRENGTH = (0.45, 1.9)  # a motion counts if its way lies between these multiples of the vocabulary's
_ROUNDS = 4
_MIN_FRAMES_FOR_TWO = 8


@dataclass(frozen=True)
class _Candidates:
    """What a track is compared with.

    Attributes:
        motions: one or two motions in turn, a tuple a candidate.
        designs: ``(candidates, 3 * frames, unknowns)``; the first three unknowns are the start's x, y and radius, the
            others weigh the unit paths of the motions; candidates that need fewer have columns of zeros.
        columns: of each candidate, the columns that belong to each of its motions.
    """

    motions: tuple[tuple[str, ...], ...]
    designs: np.ndarray
    columns: tuple[tuple[tuple[int, ...], ...], ...]


def motions_of(track: Track) -> tuple[str, ...]:
    """One motion, or two in turn, that explain a track best; ``("stands still",)`` where nothing moves."""
    observed = np.concatenate([track.center.double().numpy().T.ravel(), track.radius.double().numpy()])
    trust = np.tile(track.trust.double().numpy(), 3)
    candidates = _candidates(len(track.radius))
    solutions, squared = _fit(candidates.designs, observed, trust)
    costs = (trust * np.log1p(squared)).sum(axis=1)
    best: tuple[str, ...] = ("stands still",)
    least = math.inf
    for motions, columns, solution, cost in zip(candidates.motions, candidates.columns, solutions, costs, strict=True):
        cost += _CHARGE * sum(map(len, columns))
        if cost < least and all(_is_normal(*item, solution) for item in zip(motions, columns, strict=True)):
            best, least = motions, cost
    return best


def _fit(designs: np.ndarray, observed: np.ndarray, trust: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unknowns ``(candidates, unknowns)`` and squared errors ``(candidates, 3 * frames)`` in units of `_ERROR`."""
    weight = np.broadcast_to(trust, designs.shape[:2])
    ridge = 1e-9 * np.eye(designs.shape[2])  # decides the unknowns that columns of zeros leave open
    for _ in range(_ROUNDS):
        weighted = designs * weight[:, :, None]
        normal = weighted.transpose(0, 2, 1) @ designs + ridge
        solutions = np.linalg.solve(normal, (weighted.transpose(0, 2, 1) @ observed)[:, :, None])
        squared = ((observed - (designs @ solutions)[:, :, 0]) / _ERROR) ** 2
        weight = trust / (1.0 + squared)
    return solutions[:, :, 0], squared


def _is_normal(motion: str, columns: tuple[int, ...], solution: np.ndarray) -> bool:
    """Whether a fitted motion goes about as far as the vocabulary says, in the right direction."""
    if not columns:
        return True
    way = solution[list(columns)]
    strength = math.hypot(*way) if motion == "orbits" else float(way[0])
    if motion == "grows":
        strength /= max(float(solution[2]), 1e-3)
    return _STRENGTH[0] <= strength <= _STRENGTH[1]


@functools.lru_cache(maxsize=8)
def _candidates(frames: int) -> _Candidates:
    pairs = list(itertools.permutations(MOTIONS, 2)) if frames >= _MIN_FRAMES_FOR_TWO else []
    motions = (*((motion,) for motion in MOTIONS), *pairs)
    made = [_candidate(turns, frames) for turns in motions]
    designs = np.zeros((len(made), 3 * frames, max(design.shape[1] for design, _ in made)))
    for index, (design, _) in enumerate(made):
        designs[index, :, : design.shape[1]] = design
    return _Candidates(motions, designs, tuple(columns for _, columns in made))


def _candidate(motions: tuple[str, ...], frames: int) -> tuple[np.ndarray, tuple[tuple[int, ...], ...]]:
    """Design matrix ``(3 * frames, unknowns)`` and columns of one candidate."""
    time = np.linspace(0.0, 1.0, frames)
    share = 1.0 / len(motions)
    start = np.kron(np.eye(3), np.ones((frames, 1)))
    paths = [_paths(motion, np.clip(time - turn * share, 0.0, share)) for turn, motion in enumerate(motions)]
    ends = list(itertools.accumulate((len(path) for path in paths), initial=3))
    columns = tuple(tuple(range(first, end)) for first, end in itertools.pairwise(ends))
    return np.column_stack([start, *(path.ravel() for path in itertools.chain(*paths))]), columns


def _paths(motion: str, spent: np.ndarray) -> tuple[np.ndarray, ...]:
    """The unit paths ``(3, frames)`` of x, y and radius of which a motion is the weighted sum."""
    none = np.zeros_like(spent)
    match motion:
        case "stands still":
            return ()
        case "moves left":
            return (np.stack([-TRAVEL * spent, none, none]),)
        case "moves right":
            return (np.stack([TRAVEL * spent, none, none]),)
        case "moves up":
            return (np.stack([none, -TRAVEL * spent, none]),)
        case "moves down":
            return (np.stack([none, TRAVEL * spent, none]),)
        case "bounces":
            return (np.stack([none, -BOUNCE_HEIGHT * np.abs(np.sin(2 * np.pi * spent)), none]),)
        case "orbits":
            # With phase p: R cos p and R sin p are the two unknowns.
            sine, versine = np.sin(2 * np.pi * spent), np.cos(2 * np.pi * spent) - 1.0
            return (ORBIT_RADIUS * np.stack([versine, sine, none]), ORBIT_RADIUS * np.stack([-sine, versine, none]))
        case "grows":
            # Its unknown is the first radius times the growth, which strength divides out again.
            return (np.stack([none, none, GROWTH * spent]),)
        case _:
            raise ValueError(f"unknown motion {motion!r}, expected one of {MOTIONS}")

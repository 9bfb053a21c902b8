"""What a value that changes with the noise will be next, told from the last two that were kept, and how wrong that is.

With r1 kept at noise s1, r2 before it at s2, and t = (s - s1) / (s1 - s2), the value at noise s is foretold as

    r1 + a * t * (r1 - r2)        a = 0: constant, a = 1: linear

Whenever the truth r is seen, three sums tell how wrong any a would have been, and which one least (least squares):

    |r - r1 - a * d|^2 = |r - r1|^2 - 2 a <r - r1, d> + a^2 |d|^2        d = t * (r1 - r2)

Values carry rounding noise of their own. Noise makes d longer without making it fit better, so the best a falls towards
0 by itself: what does not change but for rounding is not extrapolated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tadp.precision import Extrapolation

Values = tuple[torch.Tensor, ...]
"""Tensors that are foretold together, such as the residuals of a block's streams."""


@dataclass(frozen=True)
class Kept:
    """Values and the noise, in [0, 1], that they were computed at."""

    noise: float
    values: Values


@dataclass(frozen=True)
class Comparison:
    """The truth, compared with what was kept before it.

    Attributes:
        along: t of the truth; 0 with a single kept value.
        gaps: distance in noise from the truth to the newest kept value and to the one before, 0 without one.
        missed, shared, step: |r - r1|^2, <r - r1, d> and |d|^2, relative to the size that errors are relative to.
    """

    along: float
    gaps: tuple[float, float]
    missed: float
    shared: float
    step: float

    def share(self, extrapolation: Extrapolation) -> float:
        """The a in [0, 1] by which a kind of extrapolation goes on from here."""
        if extrapolation is Extrapolation.MEASURED:
            return min(max(self.shared / self.step, 0.0), 1.0) if self.step > 0 else 0.0
        return 1.0 if extrapolation is Extrapolation.LINEAR and self.step > 0 else 0.0

    def error(self, share: float) -> float:
        """Squared relative error that an a would have made."""
        return max(self.missed - 2 * share * self.shared + share**2 * self.step, 0.0)


@dataclass(frozen=True)
class Foretold:
    """How to foretell a value.

    Attributes:
        newest, before: weights of the kept values.
        error: squared relative error, that of rounding included.
    """

    newest: float
    before: float
    error: float

    def of(self, kept: Sequence[Kept]) -> Values:
        """The foretold values; `kept` begins with the newest."""
        if self.before == 0:
            return kept[0].values if self.newest == 1 else tuple(value * self.newest for value in kept[0].values)
        pairs = zip(kept[0].values, kept[1].values, strict=True)
        return tuple(torch.add(one * self.newest, other, alpha=self.before) for one, other in pairs)


def sums(truth: Values, kept: Sequence[Kept], noise: float, size: torch.Tensor) -> torch.Tensor:
    """Three sums that tell how well the kept values foretell the truth, not read from the device yet.

    Args:
        truth: the values at `noise`.
        kept: one or two earlier ones, newest first.
        noise: in [0, 1].
        size: what errors are relative to: the squared norm of something, a scalar.

    Returns:
        ``(3,)`` float32: missed, shared and step of `Comparison`.
    """
    along = _along(kept, noise)
    missed = shared = step = torch.zeros((), device=size.device)
    for index, value in enumerate(truth):
        newest = kept[0].values[index]
        change = value - newest
        missed = missed + _squared(change)
        if along:
            direction = newest - kept[1].values[index]
            shared = shared + along * (change * direction).sum(dtype=torch.float32)
            step = step + along**2 * _squared(direction)
    return torch.stack([missed, shared, step]) / size


def compare(measured: Sequence[float], kept: Sequence[Kept], noise: float) -> Comparison:
    """What `sums` found, once it is read from the device."""
    gaps = tuple(abs(noise - one.noise) for one in kept)
    return Comparison(_along(kept, noise), (gaps[0], gaps[1] if len(gaps) > 1 else 0.0), *measured)


def foretell(kept: Sequence[Kept], seen: Comparison, noise: float, extrapolation: Extrapolation) -> Foretold:
    """How to foretell the values at a noise, and how wrong that will be, told from the last time the truth was seen.

    Change is taken to grow with the distance in noise as it does for smooth functions: the error of a constant with
    the distance to the newest value, that of a line with the product of the distances to both.

    Args:
        kept: the newest value, which is the truth that was seen, and the one before it if there is one.
        seen: how well the values kept before it had foretold it.
        noise: of the value to be foretold.
        extrapolation: how.
    """
    share = seen.share(extrapolation)
    slope = share * _along(kept, noise)
    near = abs(noise - kept[0].noise)
    far = abs(noise - kept[1].noise) if len(kept) > 1 else 0.0
    growth = _ratio(near, seen.gaps[0]) ** (1 - share) * _ratio(near * far, seen.gaps[0] * seen.gaps[1]) ** share
    return Foretold(1 + slope, -slope, seen.error(share) * growth**2)


def _along(kept: Sequence[Kept], noise: float) -> float:
    """The t of a noise; 0 where there is no direction to go on in."""
    if len(kept) < 2 or kept[0].noise == kept[1].noise:
        return 0.0
    return (noise - kept[0].noise) / (kept[0].noise - kept[1].noise)


def _ratio(now: float, then: float) -> float:
    return now / then if then > 0 else 1.0


def _squared(value: torch.Tensor) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(value, dtype=torch.float32)
    return norm**2

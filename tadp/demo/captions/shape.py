"""Name a shape by its harmonic moments, which blur does not change.

The moment of order m, the sum of z^m over the shape with z = x + iy from the centroid, is m-fold symmetric: a triangle
has the third, a square the fourth, a five-pointed star the fifth, a circle none. z^m is a harmonic function, so by the
mean value property convolution with any round kernel (a blur) leaves its sum as it is (Flusser and Suk 1998, "Degraded
image analysis: an invariant approach", treat the general case). Divided by area^(m/2 + 1) and taken as a magnitude it
depends on neither size nor rotation.
"""

import cmath
import functools
import math

import torch

from tadp.demo.captions.segmentation import Track
from tadp.demo.captions.vocabulary import SHAPES

_ORDERS = (3, 4, 5)
_BEST_FRAMES = 6  # the frames of a track that are trusted most; the median over them ignores one that is spoilt
_STAR_NOTCH = 0.674  # inner over outer radius of the stars that are drawn; a pentagram has 0.382


def shape_of(track: Track) -> str:
    """The shape whose moments lie nearest to the track's, in its most trusted frames."""
    chosen = torch.argsort(track.trust * track.radius, descending=True, stable=True)[:_BEST_FRAMES]
    chosen = chosen[track.trust[chosen] > 0]
    measured = torch.stack([_moments(track.coverage[frame]) for frame in chosen.tolist()]).median(dim=0).values
    known = _known()
    return min(SHAPES, key=lambda shape: float((measured - known[shape]).norm()))


def _moments(coverage: torch.Tensor) -> torch.Tensor:
    """Magnitudes of the normalised moments of orders 3, 4 and 5 of a mask ``(height, width)``."""
    coverage = coverage.double()
    height, width = coverage.shape
    y, x = torch.meshgrid(torch.arange(height).double(), torch.arange(width).double(), indexing="ij")
    area = coverage.sum()
    z = torch.complex(x - (coverage * x).sum() / area, y - (coverage * y).sum() / area)
    return torch.stack([(coverage * z**order).sum().abs() / area ** (order / 2 + 1) for order in _ORDERS])


@functools.lru_cache(maxsize=1)
def _known() -> dict[str, torch.Tensor]:
    """The same magnitudes of the ideal shapes, from their outlines."""
    return {shape: _outline_moments(_outline(shape)) for shape in SHAPES}


def _outline(shape: str) -> list[complex]:
    def ring(count: int, radii: tuple[float, ...] = (1.0,)) -> list[complex]:
        return [cmath.rect(radii[index % len(radii)], math.tau * index / count) for index in range(count)]

    match shape:
        case "circle":
            return ring(256)
        case "square":
            return ring(4)
        case "triangle":
            return ring(3)
        case "star":
            return ring(10, (1.0, _STAR_NOTCH))
        case _:
            raise ValueError(f"unknown shape {shape!r}, expected one of {SHAPES}")


def _outline_moments(corners: list[complex]) -> torch.Tensor:
    """Magnitudes of the normalised moments of a polygon about the origin, as a fan of triangles.

    Over the triangle (0, a, b) the integral of z^m is its area times 2 / ((m + 1)(m + 2)) times the sum of a^j b^(m-j).
    """
    edges = list(zip(corners, corners[1:] + corners[:1], strict=True))
    areas = [(a.conjugate() * b).imag / 2 for a, b in edges]
    moments = []
    for order in _ORDERS:
        inner = [sum(a**power * b ** (order - power) for power in range(order + 1)) for a, b in edges]
        total = sum(area * term for area, term in zip(areas, inner, strict=True)) * 2 / ((order + 1) * (order + 2))
        moments.append(abs(total) / sum(areas) ** (order / 2 + 1))
    return torch.tensor(moments, dtype=torch.float64)

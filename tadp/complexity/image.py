"""Complexity of a picture: how long its outlines are, how rich its texture, how many its colours.

For image-to-video, where the first frame says what there is to move. Pictures are measured with 256 pixels along their
longer side, so that a score says what a viewer sees and hardly depends on the resolution.
"""

import hashlib
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tadp.complexity.pixels import Pixels, opencv, shrunk

CACHE_SIZE = 512

_STEP = 25  # of 255 levels: the smallest step that counts as an outline
_OUTLINE_SCALE = 20.0  # sides of the picture
_FLAT = 4  # of 255 levels: what rounding, dithering and compression leave on flat surfaces
_NEIGHBOURS = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
_NOISE_ENTROPY = math.log2(9) + sum(math.log2(math.comb(8, ones)) for ones in range(9)) / 9
_LEVELS = 7  # per channel


@dataclass(frozen=True)
class ImageScore:
    """Complexity of a picture; every number is in [0, 1].

    Attributes:
        edges: how long the outlines of things are.
        texture: how many kinds of local patterns there are.
        color: how many colours there are, and how evenly they are spread.
        total: mean of the three.
    """

    edges: float
    texture: float
    color: float
    total: float


class _Cache:
    """Scores by the digest of the shrunk picture, the least recently used one leaving first; it holds no pictures."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._scores: OrderedDict[bytes, ImageScore] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._scores)

    def find(self, key: bytes) -> ImageScore | None:
        with self._lock:
            if key in self._scores:
                self._scores.move_to_end(key)
            return self._scores.get(key)

    def keep(self, key: bytes, score: ImageScore) -> None:
        with self._lock:
            self._scores[key] = score
            while len(self._scores) > self._size:
                self._scores.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._scores.clear()


_cache = _Cache(CACHE_SIZE)


def score(image: object) -> ImageScore:
    """Score a picture; one of a single colour scores 0 everywhere. Scores are cached by content.

    Args:
        image: a PIL image, a NumPy array or a torch tensor; `tadp.complexity.pixels` says how each is read.

    Raises:
        TypeError: for what is no picture, and for types of numbers whose range is not known.
        ValueError: for pictures that are empty, of an unknown shape, or hold NaN, infinity or floats outside [-1, 1].
        MissingExtraError: without OpenCV.
    """
    pixels = shrunk(image)
    key = hashlib.blake2b(pixels.tobytes(), digest_size=16, salt=bytes(f"{len(pixels)}", "ascii")).digest()
    known = _cache.find(key)
    if known is None:
        known = measure(pixels)
        _cache.keep(key, known)
    return known


def mean_total(images: object) -> float:
    """Mean `total` of what pipelines take for their `image`: one picture, a list of them, or a batch of any size.

    Raises:
        TypeError, ValueError, MissingExtraError: as `score`.
    """
    if isinstance(images, (np.ndarray, torch.Tensor)) and images.ndim == 4:
        images = list(images)
    parts = images if isinstance(images, (list, tuple)) else [images]
    if not parts:
        raise ValueError("there is no image to score in an empty list; pass None for none")
    return fmean(score(part).total for part in parts)


def measure(pixels: Pixels) -> ImageScore:
    """Score a picture of ``(height, width, 3)`` as it is, without shrinking and without the cache."""
    edges, texture, color = outlines(pixels), patterns(pixels), palette(pixels)
    return ImageScore(edges, texture, color, (edges + texture + color) / 3)


def outlines(pixels: Pixels) -> float:
    """Edge density: the length n of all outlines in sides of the picture, as ``1 - exp(-n / 20)``.

    A pixel lies on an outline if Sobel's gradient (Duda and Hart, "Pattern Classification and Scene Analysis", 1973,
    section 7.3) reaches that of a step of 25 levels in one of the channels. At a step it does so on both sides, so that
    n is half the number of such pixels, over the square root of the number of all: in a picture twice as large the same
    outline has twice the pixels, and the same n. Most photographs have 8 to 40; the scale of 20 spreads these over 0.33
    to 0.86 and leaves room above.
    """
    cv2 = opencv()
    gradients = [
        cv2.Sobel(pixels, cv2.CV_16S, dx, 1 - dx, borderType=cv2.BORDER_REPLICATE).clip(-127, 127) for dx in (0, 1)
    ]  # beyond the limit already, and their squares stay within 16 bits
    steep = np.square(gradients[0]) + np.square(gradients[1]) >= (4 * _STEP) ** 2
    outline = steep[..., 0] | steep[..., 1] | steep[..., 2]
    length = int(np.count_nonzero(outline)) / 2 / math.sqrt(outline.size)
    return 1.0 - math.exp(-length / _OUTLINE_SCALE)


def patterns(pixels: Pixels) -> float:
    """Texture: entropy of the histogram of local binary patterns, divided by that of noise.

    Patterns are those of Ojala, Pietikäinen and Mäenpää ("Multiresolution gray-scale and rotation invariant texture
    classification with local binary patterns", IEEE TPAMI 24(7), 2002, section 2) over the eight nearest pixels: one
    bit for each that is brighter than its centre, here by more than 4 levels, so that a flat surface has one pattern
    and not those of its noise. All 256 are kept apart, since noise rarely makes one of the paper's uniform ones.

    The scale is the entropy of noise. Among nine independent pixels every rank of the centre is equally likely, so
    that k ones have a probability of 1 / 9, and each of their patterns 1 / (9 * (8 over k)): 6.87 bits. What a
    constructed texture may have beyond that is cut off.
    """
    cv2 = opencv()
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint16)
    height, width = grey.shape
    padded = np.pad(grey, 1, mode="edge")
    limit = grey + np.uint16(_FLAT)
    codes = np.zeros((height, width), dtype=np.uint8)
    for bit, (y, x) in enumerate(_NEIGHBOURS):
        codes |= (padded[y : y + height, x : x + width] > limit).view(np.uint8) << np.uint8(bit)
    return min(_entropy(np.bincount(codes.ravel(), minlength=256)) / _NOISE_ENTROPY, 1.0)


def palette(pixels: Pixels) -> float:
    """Colour: entropy of the histogram of 7 x 7 x 7 colours, divided by the largest possible, ``log2(343)`` bits.

    The entropy is Shannon's ("A Mathematical Theory of Communication", 1948, section 6). All colours equally often
    give 1, all greys equally often a third. The borders of seven levels lie far from 0, 64, 128, 192 and 255: pictures
    are full of these, and rounding must not spread them over two colours.
    """
    cv2 = opencv()
    counts = cv2.calcHist([pixels], [0, 1, 2], None, [_LEVELS] * 3, [0, 256] * 3)
    return min(_entropy(counts.astype(np.float64)) / (3 * math.log2(_LEVELS)), 1.0)


def _entropy(counts: NDArray[Any]) -> float:
    """Of a histogram of any shape, in bits."""
    shares = counts[counts > 0] / counts.sum()
    return max(0.0, -float(shares @ np.log2(shares)))

"""Any picture as 8-bit RGB at the size that the image score works with.

What the numbers mean follows from their type: uint8 goes from 0 to 255, uint16 from 0 to 65535, and bool is black and
white. Floats go from 0 to 1, or, if the shrunk picture has one below -0.1, from -1 to 1, as diffusers' processors make
them. A picture in [-1, 1] without anything darker than mid-grey cannot be told from one in [0, 1], and is read as that.
"""

import math
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tadp.extras import need

Pixels = NDArray[np.uint8]
"""``(height, width, channels)``."""

LONGEST_SIDE = 256
"""Larger pictures are shrunk to this. Smaller ones stay as they are: they hold no more than their own pixels."""

_CHANNELS = (1, 3, 4)
_BACKGROUND = 128
"""What shows through transparent pixels: mid-grey, since most drawings without a background are black or white."""

_OVERSHOOT = 0.1
"""How far floats may leave their range: bicubic and Lanczos filters overshoot at edges by about that much."""


def opencv() -> Any:
    """The module cv2, imported when it is first needed: most generations have no image.

    Raises:
        MissingExtraError: where it is not installed.
    """
    return need("cv2", "image", "image scores need OpenCV")


def shrunk(image: object) -> Pixels:
    """The picture as ``(height, width, 3)``, its longer side at most `LONGEST_SIDE`.

    Transparent pixels show mid-grey. Shapes:

    - NumPy: ``(height, width)`` or ``(height, width, channels)`` with 1, 3 or 4 channels, and either as a batch of one:
      ``(1, height, width, channels)``.
    - torch: ``(height, width)``, ``(channels, height, width)``, or ``(height, width, channels)`` if the first dimension
      cannot be channels, that is, is not 1, 3 or 4; and either of the last two as a batch of one.

    Raises:
        TypeError: for what is no picture, and for types of numbers whose range is not known.
        ValueError: for empty pictures, shapes that are not listed, NaN, infinity, and floats outside [-1, 1].
    """
    if isinstance(image, Image.Image):
        array = _of_pil(image)
    elif isinstance(image, torch.Tensor):
        array = _of_tensor(image)
    elif isinstance(image, np.ndarray):
        array = _channels_last(image)
    else:
        raise TypeError(
            f"an image is a PIL image, a NumPy array or a torch tensor, got {type(image).__name__}; "
            "open files with PIL.Image.open, and score several images one by one"
        )
    return _small_rgb(_known_type(array))


def _of_pil(image: Image.Image) -> NDArray[Any]:
    if not all(image.size):
        raise ValueError(f"the image is empty, {image.width}x{image.height}; give one with at least one pixel")
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        return np.asarray(image if image.mode == "RGBA" else image.convert("RGBA"))
    if image.mode in ("I", "F"):
        return _of_wide_pil(np.asarray(image), image.mode)[..., None]
    if image.mode in ("L", "1") or image.mode.startswith("I;16"):
        array = np.asarray(image)
        return array.astype(array.dtype.newbyteorder("="), copy=False)[..., None]
    try:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except ValueError as error:
        raise ValueError(f"PIL cannot turn mode {image.mode} into RGB; convert the image with PIL.ImageCms") from error


def _of_wide_pil(array: NDArray[Any], mode: str) -> NDArray[Any]:
    """Modes that do not say their range: I holds 8 or 16 bits, F holds 0 to 255 or what floats hold elsewhere."""
    low, high = float(array.min()), float(array.max())
    if mode == "I" and low >= 0 and high <= 65535:
        return array.astype(np.uint8 if high <= 255 else np.uint16)
    if mode == "F" and 1 + _OVERSHOOT < high <= 255 and low >= 0:
        return array / np.float32(255)
    if mode == "F":
        return array
    raise ValueError(f"mode I holds 0 to 65535 here, got {low:g} to {high:g}; scale the image to 16 bits")


def _of_tensor(image: torch.Tensor) -> NDArray[Any]:
    tensor = image.detach()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    if tensor.ndim == 4 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim == 3 and tensor.shape[0] in _CHANNELS:
        tensor = tensor.permute(1, 2, 0)
    try:
        return _channels_last(tensor.cpu().numpy())
    except ValueError as error:
        raise ValueError(f"{error}; a tensor may be (channels, height, width) as well") from None


def _channels_last(array: NDArray[Any]) -> NDArray[Any]:
    found = array[0] if array.ndim == 4 and array.shape[0] == 1 else array
    found = found[..., None] if found.ndim == 2 else found
    if found.ndim != 3 or found.shape[2] not in _CHANNELS:
        raise ValueError(
            f"an image is (height, width) or (height, width, channels) with 1, 3 or 4 channels, got {array.shape}; "
            "transpose it, or score a batch's images one by one"
        )
    if not found.size:
        raise ValueError(f"the image is empty, {array.shape}; give one with at least one pixel")
    return found


def _known_type(array: NDArray[Any]) -> NDArray[Any]:
    """The same in a type that OpenCV shrinks: uint8, uint16, float32 or float64."""
    if array.dtype in (np.uint8, np.uint16, np.float32, np.float64):
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if np.issubdtype(array.dtype, np.floating):
        return array.astype(np.float32)
    raise TypeError(f"an image holds uint8, uint16, bool or floats, got {array.dtype}; convert it to uint8")


def _small_rgb(array: NDArray[Any]) -> Pixels:
    """Shrink in the type that the numbers come in, then bring what is left to 8 bits and three channels."""
    if array.shape[2] < 4:
        averages = _shrink(array)
        small = _eight_bits(averages, *_range(averages))  # NaN and infinity are still there
        return np.ascontiguousarray(np.broadcast_to(small, (*small.shape[:2], 3)))
    cv2 = opencv()
    whole = np.ascontiguousarray(_eight_bits(array, *_range(array)))
    small = cast(Pixels, _shrink(cv2.cvtColor(whole, cv2.COLOR_RGBA2mRGBA)))  # so that what nobody sees does not mix in
    color, alpha = small[..., :3], small[..., 3:].astype(np.uint16)
    behind = ((255 - alpha) * np.uint16(_BACKGROUND) + np.uint16(127)) // np.uint16(255)
    return np.minimum(color + behind, 255).astype(np.uint8)


def _range(array: NDArray[Any]) -> tuple[float, float]:
    """Scale and offset that bring the numbers to 0 to 255."""
    if array.dtype == np.uint8:
        return 1.0, 0.0
    if array.dtype == np.uint16:
        return 1 / 257, 0.0
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("the image holds NaN or infinity; replace them, with numpy.nan_to_num for instance")
    if low < -1 - _OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ValueError(
            f"an image of floats lies in [0, 1] or [-1, 1], got {low:g} to {high:g}; divide it by its largest value"
        )
    return (127.5, 127.5) if low < -_OVERSHOOT else (255.0, 0.0)


def _eight_bits(array: NDArray[Any], scale: float, offset: float) -> Pixels:
    if array.dtype == np.uint8 and scale == 1:
        return cast(Pixels, array)
    levels = np.multiply(array, scale, dtype=np.float32)
    levels += np.float32(offset + 0.5)
    return np.clip(levels, 0, 255, out=levels).astype(np.uint8)


def _shrink(array: NDArray[Any]) -> NDArray[Any]:
    """Average over areas, down to `LONGEST_SIDE`."""
    height, width, channels = array.shape
    if max(height, width) <= LONGEST_SIDE:
        return array
    cv2 = opencv()
    factor = LONGEST_SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    # A tensor's channels lie apart: to interleave them first would take longer than to shrink them one by one.
    together = [array] if array.flags.c_contiguous else [np.ascontiguousarray(array[..., i]) for i in range(channels)]
    small = [cv2.resize(_halved(part), size, interpolation=cv2.INTER_AREA) for part in together]
    return (small[0] if len(small) == 1 else np.stack(small, axis=2)).reshape(size[1], size[0], channels)


def _halved(array: NDArray[Any]) -> NDArray[Any]:
    """Halve what is very large: the same averages, and OpenCV takes half the time for powers of two."""
    cv2 = opencv()
    while max(array.shape[:2]) >= 6 * LONGEST_SIDE and array.shape[0] % 2 == 0 and array.shape[1] % 2 == 0:
        array = cv2.resize(array, (array.shape[1] // 2, array.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return array

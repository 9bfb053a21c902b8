"""Clips to files: .mp4 and .gif, or a .png for one frame; small clips are enlarged so that they can be watched."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tadp.extras import need
from tadp.writing import replacing

MIN_SIDE = 256
"""Pixels of the shorter side of a written clip, at least."""
MAX_GIF_SIDE = 480
"""Pixels of the longer side of a .gif, at most; the format compresses badly."""


def write_clip(directory: Path, name: str, clip: np.ndarray, fps: int) -> dict[str, str]:
    """Write a clip in every format that suits it.

    Args:
        directory: Where the files go.
        name: File name without its ending.
        clip: ``(frames, height, width, 3)`` in [0, 1].
        fps: Frames a second.

    Returns:
        File name by format: "mp4" and "gif", or "png" for a single frame.

    Raises:
        ValueError: if the clip has another shape.
        MissingExtraError: for several frames, without imageio-ffmpeg.
    """
    pixels = enlarge(to_bytes(clip))
    if len(pixels) == 1:
        with replacing(directory / f"{name}.png") as path:
            Image.fromarray(pixels[0]).save(path)
        return {"png": f"{name}.png"}
    with replacing(directory / f"{name}.mp4") as path:
        _write_mp4(path, pixels, fps)
    with replacing(directory / f"{name}.gif") as path:
        _write_gif(path, pixels, fps)
    return {"mp4": f"{name}.mp4", "gif": f"{name}.gif"}


def to_bytes(clip: np.ndarray) -> np.ndarray:
    """Pixels in [0, 1] to uint8; frames that are not finite become black, with one warning."""
    if clip.ndim != 4 or clip.shape[-1] != 3 or 0 in clip.shape:
        raise ValueError(f"a clip must have shape (frames, height, width, 3), got {clip.shape}")
    broken = ~np.isfinite(clip).all(axis=(1, 2, 3))
    if broken.any():
        warnings.warn(
            f"{broken.sum()} of {len(clip)} frames hold NaN or infinite pixels and are written black", stacklevel=2
        )
        clip = np.where(broken[:, None, None, None], 0.0, clip)
    return (clip.clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def enlarge(pixels: np.ndarray, min_side: int = MIN_SIDE) -> np.ndarray:
    """Repeat pixels by the smallest whole factor that brings the shorter side to `min_side`: nothing is smoothed."""
    factor = math.ceil(min_side / min(pixels.shape[1:3]))
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2) if factor > 1 else pixels


def need_encoder() -> Any:
    """The module that writes .mp4 files.

    Raises:
        MissingExtraError: without imageio-ffmpeg.
    """
    return need("imageio_ffmpeg", "demo", ".mp4 files need imageio-ffmpeg")


def _write_mp4(path: Path, pixels: np.ndarray, fps: int) -> None:
    height, width = pixels.shape[1:3]
    # Chroma is stored at half size, so sides must be even; ffmpeg scales an odd one.
    writer = need_encoder().write_frames(
        str(path), (width, height), fps=fps, codec="libx264", quality=8, macro_block_size=2, ffmpeg_log_level="error"
    )
    writer.send(None)
    try:
        for frame in pixels:
            writer.send(np.ascontiguousarray(frame))
    finally:
        writer.close()


def _write_gif(path: Path, pixels: np.ndarray, fps: int) -> None:
    frames = [Image.fromarray(frame) for frame in pixels]
    for frame in frames:
        frame.thumbnail((MAX_GIF_SIDE, MAX_GIF_SIDE))
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)

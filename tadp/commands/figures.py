"""The quality figures of one clip: against the 16-bit clip of the same seed, and against its caption."""

from typing import Any

import numpy as np

from tadp.demo.captions.alignment import alignment, parse_caption
from tadp.quality.fidelity import SSIM_WINDOW, psnr, ssim

_FRAMES_AT_ONCE = 8  # SSIM holds several filtered copies of what it is given


def measure(prompt: str, clip: np.ndarray, baseline: np.ndarray | None) -> dict[str, Any]:
    """Figures of a clip by name; None for what cannot be said.

    Args:
        prompt: What the clip was to show.
        clip: ``(frames, height, width, 3)`` in [0, 1].
        baseline: The 16-bit clip, shaped alike; None where there is none to compare with.

    Returns:
        psnr in dB (infinite for equal clips), ssim, identical, and alignment, an AlignmentScore where the prompt is
        written in the words of the embedded model's captions.
    """
    figures: dict[str, Any] = {"psnr": None, "ssim": None, "identical": None, "alignment": None}
    if not np.isfinite(clip).all():
        return figures
    if _in_vocabulary(prompt):
        figures["alignment"] = alignment(clip, prompt)
    if baseline is not None and np.isfinite(baseline).all():
        figures["identical"] = bool(np.array_equal(clip, baseline))
        figures["psnr"] = psnr(clip, baseline)
        if min(clip.shape[1:3]) >= SSIM_WINDOW:
            figures["ssim"] = _mean_ssim(clip, baseline)
    return figures


def _mean_ssim(clip: np.ndarray, baseline: np.ndarray) -> float:
    """SSIM is a mean over frames, so it may be taken over a few at a time."""
    starts = range(0, len(clip), _FRAMES_AT_ONCE)
    parts = [(clip[start : start + _FRAMES_AT_ONCE], baseline[start : start + _FRAMES_AT_ONCE]) for start in starts]
    return sum(ssim(ours, theirs) * len(ours) for ours, theirs in parts) / len(clip)


def _in_vocabulary(prompt: str) -> bool:
    try:
        return bool(parse_caption(prompt))
    except ValueError:
        return False

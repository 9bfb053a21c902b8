"""The one layout that clips have in tadp.quality: ``(frames, height, width, 3)``, RGB in [0, 1].

It is what a diffusers pipeline returns for each prompt with ``output_type="np"``.
"""

import numpy as np
import torch

_ROUNDING = 1e-3  # what 16-bit arithmetic may leave outside [0, 1]


def as_clip(clip: torch.Tensor | np.ndarray, name: str = "clip") -> torch.Tensor:
    """The clip as a float32 tensor ``(frames, height, width, 3)`` in [0, 1].

    Raises:
        ValueError: if its shape is another, or a value is not finite or outside [0, 1]; `name` says which clip it is.
    """
    values = torch.as_tensor(clip)
    if values.ndim != 4 or values.shape[3] != 3 or 0 in values.shape:
        raise ValueError(f"{name} must have the shape (frames, height, width, 3), got {tuple(values.shape)}")
    if not values.is_floating_point():
        raise ValueError(f"{name} must hold floats in [0, 1], got {values.dtype}; divide 8-bit values by 255")
    values = values.detach().float()
    if not torch.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    low, high = values.aminmax()
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        raise ValueError(f"{name} must hold values in [0, 1], got {low:.3g} to {high:.3g}; map [-1, 1] by (x + 1) / 2")
    return values.clamp(0.0, 1.0)

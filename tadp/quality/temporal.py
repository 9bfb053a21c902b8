"""How truly a clip moves as a reference clip of the same seed does."""

import numpy as np
import torch

from tadp.quality.fidelity import pair


def temporal_error(clip: torch.Tensor | np.ndarray, reference: torch.Tensor | np.ndarray) -> float:
    """Root mean square of what frame-to-frame changes differ by, in [0, 2]; 0 where both move alike.

    With d the difference of neighbouring frames, ``sqrt(mean((d(clip) - d(reference))^2))``: errors that stay where
    they are do not count, flicker and jerks do. Warping errors (Lai et al. 2018, "Learning blind video temporal
    consistency") take the motion that a clip should have from optical flow; here the reference has it.

    Args:
        clip: ``(frames, height, width, 3)`` in [0, 1].
        reference: likewise.

    Raises:
        ValueError: if the shapes differ, one is no clip in [0, 1], or there is one frame only.
    """
    ours, theirs = pair(clip, reference)
    if len(ours) < 2:
        raise ValueError("a temporal error needs clips of two frames or more, got one")
    return (ours - theirs).diff(dim=0).square().mean().sqrt().item()

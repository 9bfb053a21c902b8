"""What diffusers pipelines say of themselves: the arguments of their call, and the clip in what they return."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np


def call_parameters(pipeline: object) -> Mapping[str, inspect.Parameter]:
    """The parameters of a pipeline's call by name, `self` among them."""
    return inspect.signature(type(pipeline).__call__).parameters


def takes(pipeline: object, argument: str) -> bool:
    """Whether a pipeline's call has an argument of its own."""
    return argument in call_parameters(pipeline)


def first_clip(output: Any) -> np.ndarray:
    """The first clip that a pipeline returned under ``output_type="np"``; an image is a clip of one frame.

    Returns:
        ``(frames, height, width, 3)`` float32 in [0, 1].
    """
    frames = output.frames[0] if hasattr(output, "frames") else output.images[:1]
    return np.asarray(frames, dtype=np.float32)

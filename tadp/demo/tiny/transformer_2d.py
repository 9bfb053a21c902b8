"""Tiny generic transformers: the two-dimensional one as a U-Net calls it, and the temporal one between frames.

No pipeline has them as its model; U-Nets hold many of each. They add what they compute to their input, so that much of
the output passes through unchanged.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 32
_FRAMES = 8
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _image(generator: torch.Generator) -> dict[str, Any]:
    """Features of a pair of prompts; the U-Net has used up the timestep before."""
    return {
        "hidden_states": torch.randn(2, _CHANNELS, 4, 6, generator=generator),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "cross_attention_kwargs": None,
        "attention_mask": None,
        "encoder_attention_mask": None,
    }


def _video(generator: torch.Generator) -> dict[str, Any]:
    """Features of the frames of two videos, one after the other."""
    return {
        "hidden_states": torch.randn(2 * _FRAMES, _CHANNELS, 3, 2, generator=generator),
        "num_frames": _FRAMES,
        "cross_attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="Transformer2DModel",
        config={
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "in_channels": _CHANNELS,
            "num_layers": 2,
            "norm_num_groups": 8,
            "cross_attention_dim": _TEXT_DIM,
        },
        inputs=_image,
    ),
    Tiny(
        name="TransformerTemporalModel",
        config={
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "in_channels": _CHANNELS,
            "num_layers": 2,
            "norm_num_groups": 8,
        },
        inputs=_video,
    ),
)

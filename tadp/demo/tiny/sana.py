"""Tiny Sana models of images and of video: linear attention, and convolutions where others have a feed-forward network.

Their blocks take everything by position: a mask that is None, and the size of the grid as Python numbers, among it.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 8
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _conditions(generator: torch.Generator) -> dict[str, Any]:
    """A pair of prompts, the unconditional one shorter, and a timestep."""
    mask = torch.ones(2, _TEXT_TOKENS, dtype=torch.int64)
    mask[0, 2:] = 0
    return {
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_attention_mask": mask,
        "timestep": torch.tensor(500.0).expand(2),
        "attention_kwargs": None,
    }


def _image(generator: torch.Generator) -> dict[str, Any]:
    """Latents of an image, twice."""
    latents = torch.randn(1, _CHANNELS, 4, 6, generator=generator)
    return {"hidden_states": torch.cat([latents, latents]), **_conditions(generator)}


def _video(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a video, twice."""
    latents = torch.randn(1, _CHANNELS, 3, 8, 8, generator=generator)
    return {"hidden_states": torch.cat([latents, latents]), **_conditions(generator)}


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="SanaTransformer2DModel",
        config={
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "num_layers": 2,
            "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 32,
            "cross_attention_dim": 64,
            "caption_channels": _TEXT_DIM,
            "sample_size": 8,
        },
        inputs=_image,
    ),
    Tiny(
        name="SanaVideoTransformer3DModel",
        config={
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "num_layers": 2,
            "num_cross_attention_heads": 4,
            "cross_attention_head_dim": 16,
            "cross_attention_dim": 64,
            "caption_channels": _TEXT_DIM,
            "sample_size": 8,
            "rope_max_seq_len": 32,
        },
        inputs=_video,
    ),
)

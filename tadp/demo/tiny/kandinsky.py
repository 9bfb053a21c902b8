"""Tiny Kandinsky models: version 5, version 6 with sound, and the super-resolution of version 6.

Channels come last in their latents, and blocks take everything by position, None among it. Version 5 has a list of
blocks for text and one for video; without a dictionary it returns the tensor itself, no tuple of it. Version 6 has a
list for text on the side of the video, one on the side of the sound, and one whose blocks return video and sound, with
the times as a tuple; its output is a pair. The super-resolution groups 8 x 8 tokens to blocks, of which each head picks
some by value, and attends with flex attention, which outside of a compiled graph runs unfused. Its blocks take a
dictionary, a mask and a number.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_FRAMES, _HEIGHT, _WIDTH = 3, 8, 8
_TEXT_TOKENS, _TEXT_DIM, _POOLED_DIM = 12, 48, 32
_SOUND_FRAMES, _SOUND_CHANNELS = 10, 6


def _conditioned(latents: torch.Tensor) -> torch.Tensor:
    """Latents beside those of no picture and its mask, ``2 * channels + 1`` of them."""
    return torch.nn.functional.pad(latents, (0, _CHANNELS + 1))


def _video(generator: torch.Generator) -> dict[str, Any]:
    """What versions 5 and 6 are given: latents, a time, a prompt and a vector of it."""
    latents = torch.randn(1, _FRAMES, _HEIGHT, _WIDTH, _CHANNELS, generator=generator)
    return {
        "hidden_states": _conditioned(latents),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "pooled_projections": torch.randn(1, _POOLED_DIM, generator=generator),
        "timestep": torch.tensor([500.0]),
    }


def _fifth(generator: torch.Generator) -> dict[str, Any]:
    """With positions along every axis, and dense attention."""
    return {
        **_video(generator),
        "visual_rope_pos": [torch.arange(size) for size in (_FRAMES, _HEIGHT // 2, _WIDTH // 2)],
        "text_rope_pos": torch.arange(_TEXT_TOKENS),
        "scale_factor": (1.0, 2.0, 2.0),
        "sparse_params": None,
    }


def _sixth(generator: torch.Generator) -> dict[str, Any]:
    """With sound; positions and kinds of frames are given with a picture only, a mask with padding only."""
    return {
        **_video(generator),
        "audio_hidden_states": torch.randn(1, _SOUND_FRAMES, _SOUND_CHANNELS, generator=generator),
        "visual_rope_pos": None,
        "encoder_attention_mask": None,
        "visual_token_type_ids": None,
    }


def _super_resolution(generator: torch.Generator) -> dict[str, Any]:
    """Latents of two frames with two blocks of tokens each."""
    latents = torch.randn(1, 2, 8, 16, _CHANNELS, generator=generator)
    return {"hidden_states": _conditioned(latents), "timestep": torch.tensor(500.0).expand(1)}


_COMMON: dict[str, Any] = {
    "in_visual_dim": _CHANNELS,
    "out_visual_dim": _CHANNELS,
    "time_dim": 32,
    "model_dim": 64,
    "ff_dim": 128,
    "num_visual_blocks": 2,
    "axes_dims": (4, 6, 6),
}
_WITH_TEXT: dict[str, Any] = {
    **_COMMON,
    "in_text_dim": _TEXT_DIM,
    "in_text_dim2": _POOLED_DIM,
    "num_text_blocks": 2,
    "visual_cond": True,
}

TINY: tuple[Tiny, ...] = (
    Tiny(name="Kandinsky5Transformer3DModel", config=_WITH_TEXT, inputs=_fifth),
    Tiny(
        name="Kandinsky6Transformer3DModel",
        config={**_WITH_TEXT, "in_audio_dim": _SOUND_CHANNELS, "out_audio_dim": _SOUND_CHANNELS},
        inputs=_sixth,
    ),
    Tiny(
        name="Kandinsky6SRTransformer3DModel",
        config={**_COMMON, "nabla_window": (1, 1, 1)},
        inputs=_super_resolution,
    ),
)

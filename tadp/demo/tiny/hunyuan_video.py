"""Tiny HunyuanVideo models: the first, FramePack with a past at three scales, and version 1.5.

Blocks take everything by position and return both streams; those of the first also take None and a Python number that
only another kind of block uses. FramePack cuts the padding off the only prompt, so that its number of tokens depends on
the mask. Version 1.5 has no single-stream blocks. It sorts valid tokens of three conditions to the front, by indexing
with masks whose sums fix the shapes, and asks whether the image is all zeros. Its projection of the second text is 2048
wide whatever the configuration says, four million parameters.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_FRAMES, _SIZE = 3, 8
_TEXT_TOKENS, _TEXT_DIM, _POOLED_DIM = 12, 48, 32
_GLYPH_TOKENS, _GLYPH_DIM = 6, 40
_IMAGE_TOKENS, _IMAGE_DIM = 5, 24
_HISTORY = [1, 2, 4]  # frames of the past, the nearer the finer


def _mask(tokens: int, valid: int) -> torch.Tensor:
    """A mask ``(1, tokens)`` of whole numbers, padded on the right."""
    return (torch.arange(tokens) < valid).long()[None]


def _latents(frames: int, generator: torch.Generator) -> torch.Tensor:
    """Latents of so many frames."""
    return torch.randn(1, _CHANNELS, frames, _SIZE, _SIZE, generator=generator)


def _first(generator: torch.Generator) -> dict[str, Any]:
    """Latents, a padded prompt and a vector of it, and a guidance scale in thousandths."""
    return {
        "hidden_states": _latents(_FRAMES, generator),
        "timestep": torch.tensor(500.0).expand(1),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_attention_mask": _mask(_TEXT_TOKENS, 9),
        "pooled_projections": torch.randn(1, _POOLED_DIM, generator=generator),
        "guidance": torch.tensor([6.0]) * 1000,
        "attention_kwargs": None,
    }


def _framepack(generator: torch.Generator) -> dict[str, Any]:
    """The same before a first frame and its past, which comes after it in time: FramePack starts from the end."""
    prefix, window, clean, middle, coarse = torch.arange(1 + _FRAMES + sum(_HISTORY)).split([1, _FRAMES, *_HISTORY])
    return {
        **_first(generator),
        "image_embeds": torch.randn(1, _IMAGE_TOKENS, _IMAGE_DIM, generator=generator),
        "indices_latents": window,
        "latents_clean": _latents(1 + _HISTORY[0], generator),
        "indices_latents_clean": torch.cat([prefix, clean]),
        "latents_history_2x": _latents(_HISTORY[1], generator),
        "indices_latents_history_2x": middle,
        "latents_history_4x": _latents(_HISTORY[2], generator),
        "indices_latents_history_4x": coarse,
    }


def _text_to_video(generator: torch.Generator) -> dict[str, Any]:
    """Latents beside those of no picture and its mask, a padded prompt, padded glyphs and an image of zeros."""
    empty = torch.zeros(1, _CHANNELS + 1, _FRAMES, _SIZE // 2, _SIZE // 2)
    latents = torch.randn(1, _CHANNELS, _FRAMES, _SIZE // 2, _SIZE // 2, generator=generator)
    return {
        "hidden_states": torch.cat([latents, empty], dim=1),
        "image_embeds": torch.zeros(1, _IMAGE_TOKENS, _IMAGE_DIM),
        "timestep": torch.tensor(500.0).expand(1),
        "attention_kwargs": None,
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_attention_mask": _mask(_TEXT_TOKENS, 9),
        "encoder_hidden_states_2": torch.randn(1, _GLYPH_TOKENS, _GLYPH_DIM, generator=generator),
        "encoder_attention_mask_2": _mask(_GLYPH_TOKENS, 4),
    }


_COMMON: dict[str, Any] = {
    "in_channels": _CHANNELS,
    "out_channels": _CHANNELS,
    "num_attention_heads": 4,
    "attention_head_dim": 16,
    "num_layers": 2,
    "num_refiner_layers": 2,
    "mlp_ratio": 2.0,
    "text_embed_dim": _TEXT_DIM,
    "rope_axes_dim": (4, 6, 6),
}
_SINGLE_STREAM: dict[str, Any] = {**_COMMON, "num_single_layers": 2, "pooled_projection_dim": _POOLED_DIM}

TINY: tuple[Tiny, ...] = (
    Tiny(name="HunyuanVideoTransformer3DModel", config=_SINGLE_STREAM, inputs=_first),
    Tiny(
        name="HunyuanVideoFramepackTransformer3DModel",
        config={
            **_SINGLE_STREAM,
            "has_image_proj": True,
            "image_proj_dim": _IMAGE_DIM,
            "has_clean_x_embedder": True,
        },
        inputs=_framepack,
    ),
    Tiny(
        name="HunyuanVideo15Transformer3DModel",
        config={
            **_COMMON,
            "in_channels": 2 * _CHANNELS + 1,
            "text_embed_2_dim": _GLYPH_DIM,
            "image_embed_dim": _IMAGE_DIM,
            "target_size": 16 * _SIZE,
            "task_type": "t2v",
        },
        inputs=_text_to_video,
    ),
)

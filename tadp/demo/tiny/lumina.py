"""Tiny Lumina models: Lumina-Next with cross-attention, and Lumina 2 with refiners before a joint stream.

Both count time from 0 for noise to 1 for the image. Their blocks take tensors by position; the first one's get the time
embedding by keyword. Lumina 2 reads the lengths of the prompts from the mask as Python numbers.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_TEXT_TOKENS, _TEXT_DIM = 12, 48
_HEAD_DIM = 16
_GRID = 384  # rows and columns of the rotary table that the pipeline makes for any size


def _text_mask(batch: int) -> torch.Tensor:
    """A mask ``(batch, tokens)`` of whole numbers, the prompts padded on the right."""
    mask = torch.ones(batch, _TEXT_TOKENS, dtype=torch.int64)
    mask[:, 9:] = 0
    return mask


def _rotations() -> torch.Tensor:
    """Complex rotations ``(rows, columns, head dimension / 2)``, those of rows and of columns interleaved."""
    frequencies = 10000.0 ** (-torch.arange(0, _HEAD_DIM // 2, 2) / (_HEAD_DIM // 2))
    angles = torch.arange(_GRID).outer(frequencies)
    turns = torch.polar(torch.ones_like(angles), angles)
    rows = turns[:, None].expand(_GRID, _GRID, -1)
    columns = turns[None].expand(_GRID, _GRID, -1)
    return torch.stack([rows, columns], dim=-1).flatten(2)


def _next(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts."""
    latents = torch.randn(1, _CHANNELS, 8, 12, generator=generator)
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.tensor([0.5]).expand(2),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_mask": _text_mask(2),
        "image_rotary_emb": _rotations(),
        "cross_attention_kwargs": {"base_sequence_length": 24},
    }


def _second(generator: torch.Generator) -> dict[str, Any]:
    """Latents of one prompt."""
    return {
        "hidden_states": torch.randn(1, _CHANNELS, 8, 12, generator=generator),
        "timestep": torch.tensor(0.5).expand(1),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_attention_mask": _text_mask(1),
        "attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="LuminaNextDiT2DModel",
        config={
            "sample_size": 16,
            "patch_size": 2,
            "in_channels": _CHANNELS,
            "hidden_size": 64,
            "num_layers": 2,
            "num_attention_heads": 4,
            "num_kv_heads": 2,
            "multiple_of": 32,
            "cross_attention_dim": _TEXT_DIM,
        },
        inputs=_next,
    ),
    Tiny(
        name="Lumina2Transformer2DModel",
        config={
            "sample_size": 16,
            "patch_size": 2,
            "in_channels": _CHANNELS,
            "hidden_size": 64,
            "num_layers": 2,
            "num_refiner_layers": 2,
            "num_attention_heads": 4,
            "num_kv_heads": 2,
            "multiple_of": 32,
            "axes_dim_rope": (4, 6, 6),
            "axes_lens": (32, 16, 16),
            "cap_feat_dim": _TEXT_DIM,
        },
        inputs=_second,
    ),
)

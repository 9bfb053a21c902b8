"""Tiny CogView models: CogView 3 Plus with learned positions, and CogView 4 with rotary ones.

Both take sizes and the crop as tensors beside the time. The blocks return a pair of image and text; those of the first
take everything by keyword, those of the second by position, with None for the mask and for further arguments.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_HEIGHT, _WIDTH = 8, 12
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _inputs(generator: torch.Generator, batch: int) -> dict[str, Any]:
    """Latents of one image, repeated, with its size in pixels."""
    latents = torch.randn(1, _CHANNELS, _HEIGHT, _WIDTH, generator=generator)
    size = torch.tensor([[8.0 * _HEIGHT, 8.0 * _WIDTH]]).repeat(batch, 1)
    return {
        "hidden_states": latents.repeat(batch, 1, 1, 1),
        "encoder_hidden_states": torch.randn(batch, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "timestep": torch.tensor(500).expand(batch),
        "original_size": size,
        "target_size": size.clone(),
        "crop_coords": torch.zeros(batch, 2),
    }


def _third(generator: torch.Generator) -> dict[str, Any]:
    """A pair of prompts in one batch."""
    return _inputs(generator, 2)


def _fourth(generator: torch.Generator) -> dict[str, Any]:
    """One prompt: the other one is a pass of its own."""
    return {**_inputs(generator, 1), "attention_kwargs": None}


_COMMON: dict[str, Any] = {
    "in_channels": _CHANNELS,
    "out_channels": _CHANNELS,
    "num_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 4,
    "text_embed_dim": _TEXT_DIM,
    "time_embed_dim": 32,
    "condition_dim": 16,
    "pos_embed_max_size": 16,
    "sample_size": 16,
}

TINY: tuple[Tiny, ...] = (
    Tiny(name="CogView3PlusTransformer2DModel", config=_COMMON, inputs=_third),
    Tiny(name="CogView4Transformer2DModel", config={**_COMMON, "rope_axes_dim": (16, 16)}, inputs=_fourth),
)

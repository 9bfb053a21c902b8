"""A tiny Ovis-Image: double-stream blocks, then single-stream blocks that still take and return both streams."""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 16
_HEIGHT, _WIDTH = 4, 6
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Packed latents, coordinates of text and image tokens, and a time in 0..1."""
    text = torch.arange(float(_TEXT_TOKENS))
    rows, columns = torch.arange(float(_HEIGHT)), torch.arange(float(_WIDTH))
    return {
        "hidden_states": torch.randn(1, _HEIGHT * _WIDTH, _CHANNELS, generator=generator),
        "timestep": torch.tensor(0.5).expand(1),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "txt_ids": torch.stack([torch.zeros(_TEXT_TOKENS), text, text], dim=-1),
        "img_ids": torch.cartesian_prod(torch.zeros(1), rows, columns),
        "joint_attention_kwargs": {},
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="OvisImageTransformer2DModel",
        config={
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "num_layers": 2,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "joint_attention_dim": _TEXT_DIM,
            "axes_dims_rope": (4, 6, 6),
        },
        inputs=_inputs,
    ),
)

"""A tiny EasyAnimate: double-stream blocks over video and text that return both.

Blocks take everything by position, a pair of rotary tables last.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts."""
    latents = torch.randn(1, _CHANNELS, 3, 8, 8, generator=generator)
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.tensor([500.0, 500.0]),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="EasyAnimateTransformer3DModel",
        config={
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "patch_size": 2,
            "sample_width": 8,
            "sample_height": 8,
            "num_layers": 2,
            "mmdit_layers": 2,
            "time_embed_dim": 32,
            "add_norm_text_encoder": True,
            "text_embed_dim": _TEXT_DIM,
        },
        inputs=_inputs,
    ),
)

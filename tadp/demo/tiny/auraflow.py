"""A tiny AuraFlow: double-stream blocks that return both streams, then single-stream blocks over the joined tokens.

Positions are learned, from the middle of a square table.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts and a time in 0..1."""
    latents = torch.randn(1, _CHANNELS, 8, 12, generator=generator)
    return {
        "hidden_states": torch.cat([latents, latents]),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "timestep": torch.tensor([0.5]).expand(2),
        "attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="AuraFlowTransformer2DModel",
        config={
            "sample_size": 16,
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "num_mmdit_layers": 2,
            "num_single_dit_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "joint_attention_dim": _TEXT_DIM,
            "caption_projection_dim": 64,
            "pos_embed_max_size": 64,
        },
        inputs=_inputs,
    ),
)

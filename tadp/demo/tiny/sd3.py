"""A tiny Stable Diffusion 3.5: two streams, and a second self-attention in the first block.

The last block drops the text stream and is built differently, so that no two blocks have the same structure here.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_TEXT_TOKENS, _TEXT_DIM, _POOLED_DIM = 12, 48, 32


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts, with a sequence and a vector of each."""
    latents = torch.randn(1, _CHANNELS, 8, 12, generator=generator)
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.tensor(500.0).expand(2),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "pooled_projections": torch.randn(2, _POOLED_DIM, generator=generator),
        "joint_attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="SD3Transformer2DModel",
        config={
            "sample_size": 16,
            "patch_size": 2,
            "in_channels": _CHANNELS,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "joint_attention_dim": _TEXT_DIM,
            "caption_projection_dim": 64,
            "pooled_projection_dim": _POOLED_DIM,
            "out_channels": _CHANNELS,
            "pos_embed_max_size": 16,
            "dual_attention_layers": (0,),
            "qk_norm": "rms_norm",
        },
        inputs=_inputs,
    ),
)

"""A tiny Mochi: video and text in two streams of different treatment, the text stream dropped after the last block.

The last block is built differently from the ones before, so that no two blocks have the same structure here.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts; the unconditional prompt is shorter."""
    latents = torch.randn(1, _CHANNELS, 3, 8, 8, generator=generator)
    mask = torch.ones(2, _TEXT_TOKENS, dtype=torch.bool)
    mask[0, 4:] = False
    return {
        "hidden_states": torch.cat([latents, latents]),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "timestep": torch.tensor(500.0).expand(2),
        "encoder_attention_mask": mask,
        "attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="MochiTransformer3DModel",
        config={
            "patch_size": 2,
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "num_layers": 2,
            "pooled_projection_dim": 32,
            "in_channels": _CHANNELS,
            "text_embed_dim": _TEXT_DIM,
            "time_embed_dim": 32,
            "max_sequence_length": _TEXT_TOKENS,
        },
        inputs=_inputs,
    ),
)

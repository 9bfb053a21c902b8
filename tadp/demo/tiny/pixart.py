"""A tiny PixArt-alpha: cross-attention to text, and the size and shape of the image beside the timestep.

Its blocks get the sequence by position and the rest by keyword, None among it. Half of the output channels are
variances.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts, the unconditional one shorter, and the size of the image in pixels."""
    latents = torch.randn(1, _CHANNELS, 8, 12, generator=generator)
    mask = torch.ones(2, _TEXT_TOKENS, dtype=torch.int64)
    mask[0, 2:] = 0
    return {
        "hidden_states": torch.cat([latents, latents]),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_attention_mask": mask,
        "timestep": torch.tensor([500]).expand(2),
        "added_cond_kwargs": {
            "resolution": torch.tensor([[64.0, 96.0]]).repeat(2, 1),
            "aspect_ratio": torch.tensor([[64 / 96]]).repeat(2, 1),
        },
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="PixArtTransformer2DModel",
        config={
            # The embedding of size and shape needs a width that three divides.
            "num_attention_heads": 3,
            "attention_head_dim": 16,
            "in_channels": _CHANNELS,
            "out_channels": 2 * _CHANNELS,
            "num_layers": 2,
            "cross_attention_dim": 48,
            "sample_size": 16,
            "patch_size": 2,
            "use_additional_conditions": True,
            "caption_channels": _TEXT_DIM,
        },
        inputs=_inputs,
    ),
)

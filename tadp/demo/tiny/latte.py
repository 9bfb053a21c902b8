"""A tiny Latte: spatial blocks and temporal blocks by turns, the batch folded one way and then the other.

Blocks take their arguments by position, None among them. The number of frames is fixed by the configuration, and half
of the output channels are variances.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_FRAMES = 4
_CHANNELS = 4
_TEXT_TOKENS, _TEXT_DIM = 10, 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts and an integer timestep; prompts come masked and cut, so there is no mask."""
    latents = torch.randn(1, _CHANNELS, _FRAMES, 8, 8, generator=generator)
    return {
        "hidden_states": torch.cat([latents, latents]),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "timestep": torch.tensor([500]).expand(2),
        "enable_temporal_attentions": True,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="LatteTransformer3DModel",
        config={
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "in_channels": _CHANNELS,
            "out_channels": 2 * _CHANNELS,
            "num_layers": 2,
            "cross_attention_dim": 64,
            "attention_bias": True,
            "sample_size": 8,
            "patch_size": 2,
            "activation_fn": "gelu-approximate",
            "num_embeds_ada_norm": 1000,
            "norm_type": "ada_norm_single",
            "norm_elementwise_affine": False,
            "norm_eps": 1e-6,
            "caption_channels": _TEXT_DIM,
            "video_length": _FRAMES,
        },
        inputs=_inputs,
    ),
)

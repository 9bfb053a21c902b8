"""A tiny SkyReels V2 as diffusion forcing calls it: every latent frame has a time of its own.

Its blocks take everything by position, the modulation with one row a token, and a mask that is None.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_FRAMES = 3
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents whose later frames are noisier, and which of two frame rates they have."""
    return {
        "hidden_states": torch.randn(1, _CHANNELS, _FRAMES, 8, 8, generator=generator),
        "timestep": torch.tensor([[450, 500, 550]]),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "enable_diffusion_forcing": True,
        "fps": [1],
        "attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="SkyReelsV2Transformer3DModel",
        config={
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "text_dim": _TEXT_DIM,
            "freq_dim": 32,
            "ffn_dim": 128,
            "num_layers": 2,
            "rope_max_seq_len": 32,
            "inject_sample_info": True,
        },
        inputs=_inputs,
    ),
)

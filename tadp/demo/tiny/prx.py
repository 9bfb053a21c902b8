"""A tiny PRX: image tokens attend to themselves and to text that no block changes."""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts, the unconditional one shorter, and a time in 0..1."""
    latents = torch.randn(1, _CHANNELS, 8, 12, generator=generator)
    mask = torch.ones(2, _TEXT_TOKENS, dtype=torch.bool)
    mask[0, 2:] = False
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.tensor([0.5]).repeat(2),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "attention_mask": mask,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="PRXTransformer2DModel",
        config={
            "in_channels": _CHANNELS,
            "patch_size": 2,
            "context_in_dim": _TEXT_DIM,
            "hidden_size": 64,
            "mlp_ratio": 2.0,
            "num_heads": 4,
            "depth": 2,
            "axes_dim": [8, 8],
        },
        inputs=_inputs,
    ),
)

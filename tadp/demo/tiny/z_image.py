"""A tiny Z-Image: images and prompts refined apart, then together in one stream.

It takes lists of tensors, one an image, and returns a list. Lengths are padded to a multiple of 32 inside. Its blocks
take everything by position: three arguments where no time scales them, seven with three None elsewhere.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_TEXT_DIM = 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents ``(channels, 1, height, width)`` twice, a prompt and a shorter one, and a time from 0 for noise to 1."""
    latents = torch.randn(_CHANNELS, 1, 8, 12, generator=generator)
    return {
        "x": [latents, latents.clone()],
        "t": torch.tensor([0.5]).repeat(2),
        "cap_feats": [torch.randn(tokens, _TEXT_DIM, generator=generator) for tokens in (12, 5)],
        "joint_attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="ZImageTransformer2DModel",
        config={
            "in_channels": _CHANNELS,
            "dim": 64,
            "n_layers": 2,
            "n_refiner_layers": 2,
            "n_heads": 4,
            "n_kv_heads": 4,
            "cap_feat_dim": _TEXT_DIM,
            "axes_dims": [4, 6, 6],
            "axes_lens": [128, 32, 32],
        },
        inputs=_inputs,
    ),
)

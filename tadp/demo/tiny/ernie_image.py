"""A tiny ERNIE-Image: one stream of image and text tokens with one modulation for all blocks.

Tokens come before the batch: blocks see ``(tokens, batch, dim)`` and take everything by position, with the modulation
as a list of six tensors.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 16
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts, padded to the longer one, with the length of each."""
    latents = torch.randn(1, _CHANNELS, 4, 6, generator=generator)
    lengths = torch.tensor([4, _TEXT_TOKENS])
    text = torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator)
    text[0, 4:] = 0
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.full((2,), 500.0),
        "text_bth": text,
        "text_lens": lengths,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="ErnieImageTransformer2DModel",
        config={
            "hidden_size": 64,
            "num_attention_heads": 4,
            "num_layers": 2,
            "ffn_hidden_size": 128,
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "text_in_dim": _TEXT_DIM,
            "rope_axes_dim": (4, 6, 6),
        },
        inputs=_inputs,
    ),
)

"""A tiny Ideogram 4: one stream of text and image tokens, told apart by a number for each.

The prompt is padded on the left, and padding attends to nothing but padding. Image positions start so far out that only
32 bits tell them apart. Blocks take everything by position: the tokens, a mask, a pair of rotary tables and the time.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 16
_HEIGHT, _WIDTH = 4, 6
_TEXT_TOKENS, _PADDING, _TEXT_DIM = 12, 3, 48
_TEXT, _IMAGE = 3, 2  # what a token is; padding is 0
_IMAGE_START = 65536


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Packed latents after zeros for the text, text states before zeros, and a time from 0 for noise to 1."""
    image_tokens = _HEIGHT * _WIDTH
    latents = torch.randn(1, image_tokens, _CHANNELS, generator=generator)
    text = torch.randn(1, _TEXT_TOKENS - _PADDING, _TEXT_DIM, generator=generator)
    counts = torch.tensor([_PADDING, _TEXT_TOKENS - _PADDING, image_tokens])
    text_positions = torch.arange(_TEXT_TOKENS - _PADDING)[:, None].expand(-1, 3)
    image_positions = torch.cartesian_prod(torch.arange(1), torch.arange(_HEIGHT), torch.arange(_WIDTH)) + _IMAGE_START
    positions = torch.cat([torch.zeros(_PADDING, 3, dtype=torch.int64), text_positions, image_positions])
    return {
        "hidden_states": torch.nn.functional.pad(latents, (0, 0, _TEXT_TOKENS, 0)),
        "timestep": torch.tensor(0.5).expand(1),
        "encoder_hidden_states": torch.nn.functional.pad(text, (0, 0, _PADDING, image_tokens)),
        "position_ids": positions[None],
        "segment_ids": torch.tensor([-1, 1, 1]).repeat_interleave(counts)[None],
        "indicator": torch.tensor([0, _TEXT, _IMAGE]).repeat_interleave(counts)[None],
        "attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="Ideogram4Transformer2DModel",
        config={
            "in_channels": _CHANNELS,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "adaln_dim": 32,
            "llm_features_dim": _TEXT_DIM,
            "mrope_section": (4, 2, 2),
        },
        inputs=_inputs,
    ),
)

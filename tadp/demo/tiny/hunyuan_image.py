"""A tiny HunyuanImage: double-stream and single-stream blocks over an image and two texts, with a refiner for one.

Valid tokens of both texts are sorted to the front, by indexing with masks whose sums fix the shapes. Blocks take tokens
and time by position, the rest by keyword, and return both streams. The projection of the second text is 2048 wide
whatever the configuration says, four million parameters.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 16
_TEXT_TOKENS, _TEXT_DIM = 12, 48
_GLYPH_TOKENS, _GLYPH_DIM = 6, 40


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents, a prompt and the glyphs to draw, both padded on the right."""
    text_mask = torch.ones(1, _TEXT_TOKENS, dtype=torch.int64)
    text_mask[:, 9:] = 0
    glyph_mask = torch.ones(1, _GLYPH_TOKENS, dtype=torch.int64)
    glyph_mask[:, 4:] = 0
    return {
        "hidden_states": torch.randn(1, _CHANNELS, 4, 6, generator=generator),
        "timestep": torch.tensor(500.0).expand(1),
        "timestep_r": None,
        "guidance": None,
        "attention_kwargs": None,
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_attention_mask": text_mask,
        "encoder_hidden_states_2": torch.randn(1, _GLYPH_TOKENS, _GLYPH_DIM, generator=generator),
        "encoder_attention_mask_2": glyph_mask,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="HunyuanImageTransformer2DModel",
        config={
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "num_layers": 2,
            "num_single_layers": 2,
            "num_refiner_layers": 2,
            "mlp_ratio": 2.0,
            "text_embed_dim": _TEXT_DIM,
            "text_embed_2_dim": _GLYPH_DIM,
            "rope_axes_dim": (8, 8),
        },
        inputs=_inputs,
    ),
)

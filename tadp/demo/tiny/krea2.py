"""A tiny Krea 2: one stream of text and image tokens, after blocks that fuse several layers of the text encoder."""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_TEXT_TOKENS, _TEXT_LAYERS, _TEXT_DIM = 12, 3, 48
_HEIGHT, _WIDTH = 4, 6
_CHANNELS = 16


def _positions() -> torch.Tensor:
    """Rotary coordinates ``(tokens, 3)``: text at the origin, then image tokens at their rows and columns."""
    text = torch.zeros(_TEXT_TOKENS, 3)
    rows, columns = torch.arange(float(_HEIGHT)), torch.arange(float(_WIDTH))
    image = torch.cartesian_prod(torch.zeros(1), rows, columns)
    return torch.cat([text, image])


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Packed latents, stacked text states padded on the right, and a time in 0..1."""
    mask = torch.ones(1, _TEXT_TOKENS, dtype=torch.bool)
    mask[:, -3:] = False
    return {
        "hidden_states": torch.randn(1, _HEIGHT * _WIDTH, _CHANNELS, generator=generator),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_LAYERS, _TEXT_DIM, generator=generator),
        "timestep": torch.tensor([0.5]),
        "position_ids": _positions(),
        "encoder_attention_mask": mask,
        "attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="Krea2Transformer2DModel",
        config={
            "in_channels": _CHANNELS,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "intermediate_size": 128,
            "timestep_embed_dim": 32,
            "text_hidden_dim": _TEXT_DIM,
            "num_text_layers": _TEXT_LAYERS,
            "text_num_attention_heads": 3,
            "text_num_key_value_heads": 3,
            "text_intermediate_size": 96,
            "num_layerwise_text_blocks": 2,
            "num_refiner_text_blocks": 2,
            "axes_dims_rope": (4, 6, 6),
        },
        inputs=_inputs,
    ),
)

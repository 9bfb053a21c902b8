"""A tiny Chroma: double-stream and single-stream blocks whose modulation one small network makes for all of them.

Every block gets its rows of that network's output, three for a single-stream block and twelve for the others. The mask
covers text and image tokens and is made of numbers, of which the attention processors make a square mask themselves.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_HEIGHT, _WIDTH = 4, 6
_CHANNELS = 16
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Packed latents, coordinates, a mask that ends one token after the prompt, and a time in 0..1."""
    rows, columns = torch.arange(float(_HEIGHT)), torch.arange(float(_WIDTH))
    mask = torch.ones(1, _TEXT_TOKENS + _HEIGHT * _WIDTH)
    mask[:, 9:_TEXT_TOKENS] = 0
    return {
        "hidden_states": torch.randn(1, _HEIGHT * _WIDTH, _CHANNELS, generator=generator),
        "timestep": torch.tensor(500.0).expand(1) / 1000,
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "txt_ids": torch.zeros(_TEXT_TOKENS, 3),
        "img_ids": torch.cartesian_prod(torch.zeros(1), rows, columns),
        "attention_mask": mask,
        "joint_attention_kwargs": {},
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="ChromaTransformer2DModel",
        config={
            "in_channels": _CHANNELS,
            "num_layers": 2,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "joint_attention_dim": _TEXT_DIM,
            "axes_dims_rope": (4, 6, 6),
            "approximator_num_channels": 32,
            "approximator_hidden_dim": 64,
            "approximator_layers": 2,
        },
        inputs=_inputs,
    ),
)

"""Tiny Qwen-Image models: two streams of text and image tokens, and version 2.1 with one stream and causal conditions.

Qwen-Image comes as the pipeline calls it for one prompt, which has no padding and hence no mask. Version 2.1 edits an
image, without the cache of keys and values (`use_kv_cache=False` in the pipeline, which keeps every step alike); its
shapes depend on the values of `img_mask`, so that it breaks a graph before the blocks, and its blocks take lists of
Python numbers by keyword.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 16
_HEIGHT, _WIDTH = 4, 6
_TEXT_TOKENS, _TEXT_DIM = 12, 48
_INPUT_SIZE = 4  # rows and columns of latents of the image to edit; 2 x 2 of them share a slot in the prompt
_SLOTS = _INPUT_SIZE * _INPUT_SIZE // 4


def _first(generator: torch.Generator) -> dict[str, Any]:
    """Packed latents and a time in 0..1."""
    return {
        "hidden_states": torch.randn(1, _HEIGHT * _WIDTH, _CHANNELS, generator=generator),
        "timestep": torch.tensor(0.5).expand(1),
        "guidance": None,
        "encoder_hidden_states_mask": None,
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "img_shapes": [[(1, _HEIGHT, _WIDTH)]],
        "attention_kwargs": {},
    }


def _second(generator: torch.Generator) -> dict[str, Any]:
    """Latents of the image to edit and of the one that is made, and a prompt that holds slots of the first."""
    prompt = torch.zeros(1, _TEXT_TOKENS + _SLOTS, dtype=torch.bool)
    prompt[:, 3 : 3 + _SLOTS] = True
    made = torch.ones(1, _HEIGHT * _WIDTH // 4, dtype=torch.bool)
    tokens = _INPUT_SIZE * _INPUT_SIZE + _HEIGHT * _WIDTH
    return {
        "hidden_states": torch.randn(1, tokens, _CHANNELS, generator=generator),
        "timestep": torch.tensor(0.5).expand(1),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS + _SLOTS, _TEXT_DIM, generator=generator),
        "encoder_hidden_states_mask": None,
        "img_shapes": [[(1, _INPUT_SIZE, _INPUT_SIZE), (1, _HEIGHT, _WIDTH)]],
        "img_mask": torch.cat([prompt, made], dim=1),
        "attention_kwargs": None,
        "kv_cache": None,
        "kv_cache_mode": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="QwenImageTransformer2DModel",
        config={
            "patch_size": 2,
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS // 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "joint_attention_dim": _TEXT_DIM,
            "axes_dims_rope": (4, 6, 6),
        },
        inputs=_first,
    ),
    Tiny(
        name="QwenImage21Transformer2DModel",
        config={
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "context_in_dim": _TEXT_DIM,
            "axes_dims_rope": (4, 6, 6),
        },
        inputs=_second,
    ),
)

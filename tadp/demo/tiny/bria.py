"""Tiny Bria models: Bria 3 and Fibo with double-stream and single-stream blocks, and Fibo 2 with one stream.

Fibo mixes another layer of the text encoder into the prompt before every block and takes these layers as a list. Fibo 2
attends to the prompt through a few learned queries and in chosen blocks only. For a batch of prompts it would read
their lengths from a mask as Python numbers; a single prompt has none. Its blocks take mask and rotations by position,
the rest by keyword, and where they do not attend to text it is None.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_HEIGHT, _WIDTH = 4, 6
_CHANNELS = 16
_TEXT_TOKENS, _TEXT_DIM = 12, 48
_LAYERS, _SINGLE_LAYERS = 2, 2
_LAYER_DIM = 32
_MAP_CHANNELS = 4
_GISTS = 4


def _image_positions() -> torch.Tensor:
    """Rotary coordinates ``(tokens, 3)``: zero, row and column."""
    rows, columns = torch.arange(float(_HEIGHT)), torch.arange(float(_WIDTH))
    return torch.cartesian_prod(torch.zeros(1), rows, columns)


def _third(generator: torch.Generator) -> dict[str, Any]:
    """Packed latents of a pair of prompts and their coordinates."""
    latents = torch.randn(1, _HEIGHT * _WIDTH, _CHANNELS, generator=generator)
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.tensor(500.0).expand(2),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "attention_kwargs": None,
        "txt_ids": torch.zeros(_TEXT_TOKENS, 3),
        "img_ids": _image_positions(),
    }


def _fibo(generator: torch.Generator) -> dict[str, Any]:
    """The same with a layer of the text encoder for every block and a mask, as the unconditional prompt is shorter."""
    latents = torch.randn(1, _HEIGHT * _WIDTH, _CHANNELS, generator=generator)
    mask = torch.ones(2, 1, 1, _TEXT_TOKENS + _HEIGHT * _WIDTH, dtype=torch.bool)
    mask[0, ..., 3:_TEXT_TOKENS] = False
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.tensor(500.0).expand(2),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "text_encoder_layers": [
            torch.randn(2, _TEXT_TOKENS, _LAYER_DIM, generator=generator) for _ in range(_LAYERS + _SINGLE_LAYERS)
        ],
        "joint_attention_kwargs": {"attention_mask": mask},
        "txt_ids": torch.zeros(_TEXT_TOKENS, 3),
        "img_ids": _image_positions(),
    }


def _second_fibo(generator: torch.Generator) -> dict[str, Any]:
    """Latents of one image, two bundles of text states for one prompt, a time in 0..1, and no image to edit."""
    return {
        "hidden_states": torch.randn(1, _MAP_CHANNELS, 2 * _HEIGHT, 2 * _WIDTH, generator=generator),
        "timestep": torch.tensor(500.0).expand(1) / 1000,
        "encoder_hidden_states": torch.randn(1, 2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_attention_mask": None,
        "context_latents": None,
    }


_COMMON: dict[str, Any] = {
    "in_channels": _CHANNELS,
    "num_layers": _LAYERS,
    "num_single_layers": _SINGLE_LAYERS,
    "attention_head_dim": 16,
    "num_attention_heads": 4,
    "joint_attention_dim": _TEXT_DIM,
    "axes_dims_rope": [4, 6, 6],
}

TINY: tuple[Tiny, ...] = (
    Tiny(name="BriaTransformer2DModel", config=_COMMON, inputs=_third),
    Tiny(name="BriaFiboTransformer2DModel", config={**_COMMON, "text_encoder_dim": _LAYER_DIM}, inputs=_fibo),
    Tiny(
        name="BriaFibo2Transformer2DModel",
        config={
            "in_channels": _MAP_CHANNELS,
            "dim": 64,
            "n_layers": 2,
            "n_refiner_layers": 2,
            "n_heads": 4,
            "cap_feat_dim": _TEXT_DIM,
            "injection_layer_ids": (1,),
            "perceiver_num_layers": 2,
            "min_num_gist_tokens": _GISTS,
            "max_num_gist_tokens": 2 * _GISTS,
            "gist_step": 2,
            "gist_min_text_len": 4,
            "gist_max_text_len": 20,
            "axes_dims": (4, 6, 6),
            "axes_lens": (32, 32, 32),
        },
        inputs=_second_fibo,
    ),
)

"""Tiny FLUX models: FLUX.1, FLUX.2 and FLUX.3.

All take packed latents with coordinates and a time in 0..1, and return both streams from their double-stream blocks, by
keyword. FLUX.1's single-stream blocks take and return both streams too. Those of FLUX.2 take one, joined before them,
and None for the other, and all blocks of a list share one modulation. FLUX.3 starts with blocks for every kind of token
alone, lists in a ModuleDict that take everything by position, those for reference images unused here; its joint blocks
get a modulation for every token.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_HEIGHT, _WIDTH = 4, 6
_CHANNELS = 16
_TEXT_TOKENS, _TEXT_DIM, _POOLED_DIM = 12, 48, 32


def _packed(generator: torch.Generator) -> dict[str, Any]:
    """What all three are given: packed latents, a time and a prompt."""
    return {
        "hidden_states": torch.randn(1, _HEIGHT * _WIDTH, _CHANNELS, generator=generator),
        "timestep": torch.tensor(500.0).expand(1) / 1000,
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
    }


def _text_positions() -> torch.Tensor:
    """Rotary coordinates ``(tokens, 4)``: the last one counts, the others are zero."""
    zero = torch.zeros(1, dtype=torch.int64)
    return torch.cartesian_prod(zero, zero, zero, torch.arange(_TEXT_TOKENS))


def _image_positions() -> torch.Tensor:
    """Rotary coordinates ``(tokens, 4)``: zero, row, column, zero."""
    zero = torch.zeros(1, dtype=torch.int64)
    return torch.cartesian_prod(zero, torch.arange(_HEIGHT), torch.arange(_WIDTH), zero)


def _first(generator: torch.Generator) -> dict[str, Any]:
    """With a guidance scale and a vector of the prompt, and coordinates without the fourth."""
    return {
        **_packed(generator),
        "guidance": torch.tensor([3.5]),
        "pooled_projections": torch.randn(1, _POOLED_DIM, generator=generator),
        "txt_ids": torch.zeros(_TEXT_TOKENS, 3),
        "img_ids": _image_positions()[:, :3].float(),
        "joint_attention_kwargs": {},
    }


def _second(generator: torch.Generator) -> dict[str, Any]:
    """With a guidance scale, and coordinates that have a batch."""
    return {
        **_packed(generator),
        "guidance": torch.tensor([4.0]),
        "txt_ids": _text_positions()[None],
        "img_ids": _image_positions()[None],
        "joint_attention_kwargs": None,
    }


def _third(generator: torch.Generator) -> dict[str, Any]:
    """With rows and columns in steps of a half."""
    return {
        **_packed(generator),
        "txt_ids": _text_positions().float(),
        "img_ids": _image_positions() * torch.tensor([1.0, 0.5, 0.5, 1.0]),
    }


_COMMON: dict[str, Any] = {
    "in_channels": _CHANNELS,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 4,
    "joint_attention_dim": _TEXT_DIM,
}

TINY: tuple[Tiny, ...] = (
    Tiny(
        name="FluxTransformer2DModel",
        config={
            **_COMMON,
            "pooled_projection_dim": _POOLED_DIM,
            "guidance_embeds": True,
            "axes_dims_rope": (4, 6, 6),
        },
        inputs=_first,
    ),
    Tiny(
        name="Flux2Transformer2DModel",
        config={**_COMMON, "timestep_guidance_channels": 32, "axes_dims_rope": (4, 4, 4, 4)},
        inputs=_second,
    ),
    Tiny(
        name="Flux3Transformer2DModel",
        config={**_COMMON, "cond_in_channels": _CHANNELS, "timestep_channels": 32, "axes_dims_rope": (4, 4, 4, 4)},
        inputs=_third,
    ),
)

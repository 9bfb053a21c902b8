"""A tiny Allegro: video tokens with cross-attention to the prompt, and rotary tables looked up by position.

The rotary argument is a pair of triples: cosines and sines per axis, then the positions of every token per axis. The
head dimension is a third for each axis, so that it is 24 here.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_FRAMES, _HEIGHT, _WIDTH = 3, 8, 8
_TEXT_TOKENS, _TEXT_DIM = 12, 48
_HEADS, _HEAD_DIM = 4, 24
_STRETCH = (2.2, 2.0, 2.0)  # by which positions are divided, over time, rows and columns


def _rotary() -> tuple[tuple[tuple[torch.Tensor, torch.Tensor], ...], tuple[torch.Tensor, ...]]:
    """For every axis cosines and sines ``(positions, head dim / 3)``, and the positions of tokens ``(1, tokens)``."""
    third = _HEAD_DIM // 3
    frequencies = 10000.0 ** (-torch.arange(0, third, 2) / third)
    axes = [torch.arange(float(size)) for size in (_FRAMES, _HEIGHT // 2, _WIDTH // 2)]
    tables = []
    for axis, stretch in zip(axes, _STRETCH, strict=True):
        angles = (axis / stretch).outer(frequencies).repeat(1, 2)
        tables.append((angles.cos(), angles.sin()))
    positions = torch.cartesian_prod(*(axis.long() for axis in axes)).T.unsqueeze(1).contiguous()
    return tuple(tables), tuple(positions)


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts, masked where they are shorter than the longest."""
    latents = torch.randn(1, _CHANNELS, _FRAMES, _HEIGHT, _WIDTH, generator=generator)
    mask = torch.ones(2, _TEXT_TOKENS, dtype=torch.int64)
    mask[0, 3:] = 0
    mask[1, 9:] = 0
    return {
        "hidden_states": torch.cat([latents, latents]),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_attention_mask": mask,
        "timestep": torch.tensor(500).expand(2),
        "image_rotary_emb": _rotary(),
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="AllegroTransformer3DModel",
        config={
            "num_attention_heads": _HEADS,
            "attention_head_dim": _HEAD_DIM,
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "num_layers": 2,
            "cross_attention_dim": _HEADS * _HEAD_DIM,
            "sample_height": _HEIGHT,
            "sample_width": _WIDTH,
            "sample_frames": _FRAMES,
            "caption_channels": _TEXT_DIM,
            "interpolation_scale_t": _STRETCH[0],
            "interpolation_scale_h": _STRETCH[1],
            "interpolation_scale_w": _STRETCH[2],
        },
        inputs=_inputs,
    ),
)

"""A tiny ACE-Step: music latents beside what they are made from, with a banded mask in every other block.

Blocks take everything by keyword: a pair of rotary tables, a mask in the first block and None in the second.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_FRAMES, _CHANNELS = 48, 8
_TOKENS, _DIM = 12, 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts, the source and the part of it to replace, and a time in 0..1 given twice."""
    latents = torch.randn(1, _FRAMES, _CHANNELS, generator=generator)
    source = torch.randn(1, _FRAMES, _CHANNELS, generator=generator)
    context = torch.cat([source, torch.ones(1, _FRAMES, _CHANNELS)], dim=-1)
    time = torch.full((2,), 0.5)
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": time,
        "timestep_r": time.clone(),
        "encoder_hidden_states": torch.randn(2, _TOKENS, _DIM, generator=generator),
        "context_latents": torch.cat([context, context]),
        "attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="AceStepTransformer1DModel",
        config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "in_channels": 3 * _CHANNELS,
            "audio_acoustic_hidden_dim": _CHANNELS,
            "sliding_window": 6,
            "encoder_hidden_size": _DIM,
        },
        inputs=_inputs,
    ),
)

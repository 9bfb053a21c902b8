"""Tiny Stable Audio models: the first with rotary tables from outside, the third with memory tokens in front.

Both condition on text and on the length of the sound: the first by a token before the sequence, the third by scales and
shifts. The third's differential attention takes the difference of two attentions.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS, _FRAMES = 8, 24
_HEAD_DIM = 16
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _rotations(tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines ``(tokens, head dimension / 2)``, every frequency twice; the rest of a head is not turned."""
    dim = _HEAD_DIM // 2
    frequencies = 10000.0 ** (-torch.arange(0, dim, 2) / dim)
    angles = torch.arange(tokens).outer(frequencies)
    return torch.cat([angles.cos()] * 2, dim=-1), torch.cat([angles.sin()] * 2, dim=-1)


def _first(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts, one time for both, and the rotary tables of sound and length token."""
    latents = torch.randn(1, _CHANNELS, _FRAMES, generator=generator)
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.tensor([0.5]),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "global_hidden_states": torch.randn(2, 1, 2 * _TEXT_DIM, generator=generator),
        "rotary_embedding": _rotations(_FRAMES + 1),
    }


def _third(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts, the unconditional one shorter, and a time in 0..1."""
    latents = torch.randn(1, _CHANNELS, _FRAMES, generator=generator)
    mask = torch.ones(2, _TEXT_TOKENS, dtype=torch.bool)
    mask[0, 2:-1] = False
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.tensor(0.5).expand(2),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "global_hidden_states": torch.randn(2, _TEXT_DIM, generator=generator),
        "encoder_attention_mask": mask,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="StableAudioDiTModel",
        config={
            "sample_size": _FRAMES,
            "in_channels": _CHANNELS,
            "num_layers": 2,
            "attention_head_dim": _HEAD_DIM,
            "num_attention_heads": 4,
            "num_key_value_attention_heads": 2,
            "out_channels": _CHANNELS,
            "cross_attention_dim": 32,
            "time_proj_dim": 32,
            "global_states_input_dim": 2 * _TEXT_DIM,
            "cross_attention_input_dim": _TEXT_DIM,
        },
        inputs=_first,
    ),
    Tiny(
        name="StableAudio3DiTModel",
        config={
            "io_channels": _CHANNELS,
            "embed_dim": 64,
            "depth": 2,
            "num_heads": 4,
            "cond_token_dim": _TEXT_DIM,
            "global_cond_dim": _TEXT_DIM,
            "local_add_cond_dim": _CHANNELS + 1,
            "timestep_features_dim": 32,
            "num_memory_tokens": 4,
        },
        inputs=_third,
    ),
)

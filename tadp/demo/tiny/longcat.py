"""Tiny LongCat models: the image model with double-stream and single-stream blocks, and the audio model.

The image model's single-stream blocks take and return both streams too. The audio model's blocks take everything by
keyword and share one modulation that is computed once.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_TEXT_TOKENS, _TEXT_DIM = 12, 48
_HEIGHT, _WIDTH = 4, 6
_AUDIO_FRAMES, _AUDIO_CHANNELS = 24, 16
_CHANNELS = 16


def _image(generator: torch.Generator) -> dict[str, Any]:
    """Packed latents, coordinates of text and image tokens, and a time in 0..1."""
    text = torch.arange(float(_TEXT_TOKENS))
    rows, columns = torch.arange(float(_HEIGHT)), torch.arange(float(_WIDTH))
    return {
        "hidden_states": torch.randn(1, _HEIGHT * _WIDTH, _CHANNELS, generator=generator),
        "timestep": torch.tensor([0.5]),
        "guidance": None,
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "txt_ids": torch.stack([torch.zeros(_TEXT_TOKENS), text, text], dim=-1),
        "img_ids": torch.cartesian_prod(torch.ones(1), rows + _TEXT_TOKENS, columns + _TEXT_TOKENS),
    }


def _audio(generator: torch.Generator) -> dict[str, Any]:
    """Latents of two sounds, the second one shorter in text; nothing is given of the sound itself."""
    text_mask = torch.ones(2, _TEXT_TOKENS, dtype=torch.bool)
    text_mask[1, 7:] = False
    return {
        "hidden_states": torch.randn(2, _AUDIO_FRAMES, _AUDIO_CHANNELS, generator=generator),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_attention_mask": text_mask,
        "timestep": torch.tensor(0.5).expand(2),
        "attention_mask": torch.ones(2, _AUDIO_FRAMES, dtype=torch.bool),
        "latent_cond": torch.zeros(2, _AUDIO_FRAMES, _AUDIO_CHANNELS),
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="LongCatImageTransformer2DModel",
        config={
            "in_channels": _CHANNELS,
            "num_layers": 2,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "joint_attention_dim": _TEXT_DIM,
            "pooled_projection_dim": _TEXT_DIM,
            "axes_dims_rope": [4, 6, 6],
        },
        inputs=_image,
    ),
    Tiny(
        name="LongCatAudioDiTTransformer",
        config={
            "dit_dim": 64,
            "dit_depth": 2,
            "dit_heads": 4,
            "dit_text_dim": _TEXT_DIM,
            "latent_dim": _AUDIO_CHANNELS,
        },
        inputs=_audio,
    ),
)

"""Tiny LTX-Video and LTX-2: one makes video, the other video and its sound in two streams that attend to each other.

LTX-2 has the configuration of its first release, which projects the prompts inside the model; its blocks take every
argument by keyword, masks that are None among them, and return a pair. Both pipelines run the unconditional and the
conditional half in one batch.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_FRAMES, _HEIGHT, _WIDTH = 3, 4, 4
_AUDIO_FRAMES = 10
_TEXT_TOKENS, _TEXT_DIM = 12, 48
_CHANNELS = 16
_TEMPORAL, _SPATIAL, _RATE = 8, 32, 24.0  # pixels per latent, frames per second


def _video_coordinates() -> torch.Tensor:
    """Start and end of every latent, ``(2, 3, tokens, 2)``: in seconds along time, in pixels along height and width."""
    grid = torch.stack(
        torch.meshgrid(*(torch.arange(float(size)) for size in (_FRAMES, _HEIGHT, _WIDTH)), indexing="ij")
    )
    bounds = torch.stack([grid, grid + 1], dim=-1).flatten(1, 3)
    bounds = bounds * torch.tensor([_TEMPORAL, _SPATIAL, _SPATIAL]).view(3, 1, 1)
    # The first latent holds a single frame.
    bounds[0] = (bounds[0] + 1 - _TEMPORAL).clamp(min=0) / _RATE
    return bounds.repeat(2, 1, 1, 1)


def _audio_coordinates() -> torch.Tensor:
    """Start and end of every latent in seconds, ``(2, 1, tokens, 2)``: 4 spectrogram frames of a hundredth each."""
    start = torch.arange(float(_AUDIO_FRAMES))
    bounds = torch.stack([start, start + 1], dim=-1) * 4
    return ((bounds + 1 - 4).clamp(min=0) / 100).repeat(2, 1, 1, 1)


def _text_mask() -> torch.Tensor:
    """A mask ``(2, tokens)`` in which the unconditional prompt is shorter."""
    mask = torch.ones(2, _TEXT_TOKENS)
    mask[0, 4:] = 0
    return mask


def _video(generator: torch.Generator) -> dict[str, Any]:
    """Packed latents of a pair of prompts; positions follow from the sizes."""
    latents = torch.randn(1, _FRAMES * _HEIGHT * _WIDTH, _CHANNELS, generator=generator)
    return {
        "hidden_states": torch.cat([latents, latents]),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "timestep": torch.tensor(500.0).expand(2),
        "encoder_attention_mask": _text_mask().bool(),
        "num_frames": _FRAMES,
        "height": _HEIGHT,
        "width": _WIDTH,
        "rope_interpolation_scale": (_TEMPORAL / _RATE, _SPATIAL, _SPATIAL),
        "attention_kwargs": None,
    }


def _video_and_audio(generator: torch.Generator) -> dict[str, Any]:
    """Packed latents of both streams for a pair of prompts, with coordinates made ahead of the loop."""
    video = torch.randn(1, _FRAMES * _HEIGHT * _WIDTH, _CHANNELS, generator=generator)
    audio = torch.randn(1, _AUDIO_FRAMES, _CHANNELS, generator=generator)
    timestep = torch.tensor(500.0).expand(2)
    return {
        "hidden_states": torch.cat([video, video]),
        "audio_hidden_states": torch.cat([audio, audio]),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "audio_encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "timestep": timestep,
        "sigma": timestep,
        "encoder_attention_mask": _text_mask(),
        "audio_encoder_attention_mask": _text_mask(),
        "num_frames": _FRAMES,
        "height": _HEIGHT,
        "width": _WIDTH,
        "fps": _RATE,
        "audio_num_frames": _AUDIO_FRAMES,
        "video_coords": _video_coordinates(),
        "audio_coords": _audio_coordinates(),
        "isolate_modalities": False,
        "spatio_temporal_guidance_blocks": None,
        "perturbation_mask": None,
        "use_cross_timestep": True,
        "attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="LTXVideoTransformer3DModel",
        config={
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "cross_attention_dim": 64,
            "num_layers": 2,
            "caption_channels": _TEXT_DIM,
        },
        inputs=_video,
    ),
    Tiny(
        name="LTX2VideoTransformer3DModel",
        config={
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "cross_attention_dim": 64,
            "audio_in_channels": _CHANNELS,
            "audio_out_channels": _CHANNELS,
            "audio_num_attention_heads": 2,
            "audio_attention_head_dim": 16,
            "audio_cross_attention_dim": 32,
            "num_layers": 2,
            "caption_channels": _TEXT_DIM,
            "rope_type": "split",
        },
        inputs=_video_and_audio,
    ),
)

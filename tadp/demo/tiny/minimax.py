"""Tiny MiniMax models: H3 makes video and sound in one packed sequence, Music 3 makes sound, its depth decoder codes.

H3 has no batch: one request is one sequence of text, audio and video rows, and every row finds its modulation in a
table by an index that its blocks get by position. Music 3 conditions through channels, so that its blocks get the
sequence and a pair of rotary tables. The depth decoder is a language model of a few steps, without noise and without a
time; the pipeline calls it with one tensor by position, and its forward has no `return_dict`. Its embeddings,
projection and heads are called from outside and take no part in its forward.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_VIDEO_TAG, _TEXT_TAG, _AUDIO_TAG = 0, 1, 2
_TEXT_TOKENS, _TEXT_DIM = 8, 48
_FRAMES, _HEIGHT, _WIDTH = 3, 2, 3  # in patches of 1 x 2 x 2 latents
_AUDIO_LATENTS, _AUDIO_CHANNELS = 5, 8  # of each of two channels of sound
_CHANNELS = 4
_MUSIC_CHANNELS, _MUSIC_FRAMES, _MUSIC_CONDITION = 8, 24, 32
_DEPTH_DIM = 64


def _positions() -> torch.Tensor:
    """Time, row and column of every row of the packed sequence, ``(rows, 3)``: text, then sound, then video."""
    text = torch.zeros(_TEXT_TOKENS, 3)
    text[:, 0] = torch.arange(_TEXT_TOKENS)
    rows = 32 * (torch.arange(_HEIGHT) + 0.5) / _HEIGHT
    columns = 32 * (torch.arange(_WIDTH) + 0.5) / _WIDTH
    # The first latent holds one frame, later ones four, on a clock of 5/3 ticks a frame.
    frames = _TEXT_TOKENS + 5 / 3 * torch.tensor([0.0, 1.0, 5.0])
    video = torch.cartesian_prod(frames, rows, columns)
    # Sound has no row; its two channels sit at the first and at the last column.
    times = torch.arange(_TEXT_TOKENS, _TEXT_TOKENS + _AUDIO_LATENTS, dtype=torch.float32)
    audio = torch.cartesian_prod(columns[[0, -1]], times, torch.zeros(1))[:, [1, 2, 0]]
    return torch.cat([text, audio, video])


def _video_and_audio(generator: torch.Generator) -> dict[str, Any]:
    """Rows of the three kinds and where they go; sound is a little further along its schedule than video."""
    counts = (_TEXT_TOKENS, 2 * _AUDIO_LATENTS, _FRAMES * _HEIGHT * _WIDTH)
    text, audio, video = torch.arange(sum(counts)).split(counts)
    tags = torch.empty(sum(counts), dtype=torch.int64)
    tags[text], tags[audio], tags[video] = _TEXT_TAG, _AUDIO_TAG, _VIDEO_TAG
    return {
        "hidden_states": torch.randn(1, len(video), 4 * _CHANNELS, generator=generator),
        "audio_hidden_states": torch.randn(1, len(audio), _AUDIO_CHANNELS, generator=generator),
        "encoder_hidden_states": torch.randn(1, len(text), _TEXT_DIM, generator=generator),
        "timestep": torch.tensor([0.5, 0.6]),
        "timestep_indices": (tags == _AUDIO_TAG).long(),
        "attention_kwargs": None,
        "token_tags": tags,
        "position_ids": _positions(),
        "video_indices": video,
        "audio_indices": audio,
        "text_indices": text,
    }


def _music(generator: torch.Generator) -> dict[str, Any]:
    """Latents ``(1, channels, frames)``, a time in 0..1, and what the language model says of every frame."""
    return {
        "hidden_states": torch.randn(1, _MUSIC_CHANNELS, _MUSIC_FRAMES, generator=generator),
        "timestep": torch.tensor(0.5).expand(1),
        "encoder_hidden_states": torch.randn(1, _MUSIC_FRAMES, _MUSIC_CONDITION, generator=generator),
    }


def _depth(generator: torch.Generator) -> dict[str, Any]:
    """Projected embeddings of one frame, with and without its condition, half of the codes sampled."""
    return {"inputs_embeds": torch.randn(2, 5, _DEPTH_DIM, generator=generator)}


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="MiniMaxH3Transformer3DModel",
        config={
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "hidden_size": 64,
            "num_layers": 2,
            "num_refiner_layers": 2,
            "ffn_dim": 128,
            "in_channels": _CHANNELS,
            "audio_in_channels": _AUDIO_CHANNELS,
            "patch_size": (1, 2, 2),
            "text_dim": _TEXT_DIM,
            "freq_dim": 32,
            "time_embed_hidden_dim": 64,
            "time_embed_dim": 32,
            "rope_freq_dim": 2,
        },
        inputs=_video_and_audio,
    ),
    Tiny(
        name="MiniMaxMusic3Transformer1DModel",
        config={
            "in_channels": _MUSIC_CHANNELS,
            "condition_dim": _MUSIC_CONDITION,
            "num_layers": 2,
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "ff_inner_dim": 128,
            "rotary_dim": 8,
            "fourier_embedding_dim": 32,
        },
        inputs=_music,
    ),
    Tiny(
        name="MiniMaxMusic3RVQDepthDecoder",
        config={
            "hidden_size": _DEPTH_DIM,
            "num_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 96,
            "audio_vocab_size": 16,
            "num_codebooks": 8,
            "max_position_embeddings": 16,
        },
        inputs=_depth,
    ),
)

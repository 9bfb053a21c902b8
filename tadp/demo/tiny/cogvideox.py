"""Tiny CogVideoX and ConsisID, the same blocks with a person's face added to the video between them.

Blocks take everything by keyword and return a pair of video and text, and the latents have frames before channels.
ConsisID reads the face through a small network of its own, whose layers are pairs in a nested list, and adds it through
a list of cross-attention layers, one after every block here; it takes the states of the face encoder as a list.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_FRAMES, _SIZE = 3, 8
_TEXT_TOKENS, _TEXT_DIM = 12, 48
_HEADS, _HEAD_DIM = 6, 16
_INNER = _HEADS * _HEAD_DIM
_FACE_TOKENS, _FACE_DIM, _IDENTITY_DIM, _FACE_SCALES = 7, 32, 40, 2


def _rotary() -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines ``(tokens, head dim)``: a quarter of the channels for time, the rest for rows and columns."""
    time, space = _HEAD_DIM // 4, _HEAD_DIM // 8 * 3
    side = _SIZE // 2
    grid = torch.cartesian_prod(*(torch.arange(float(size)) for size in (_FRAMES, side, side)))
    angles = torch.cat(
        [
            position.outer(10000.0 ** (-torch.arange(0, channels, 2) / channels)).repeat_interleave(2, dim=1)
            for position, channels in zip(grid.T, (time, space, space), strict=True)
        ],
        dim=1,
    )
    return angles.cos(), angles.sin()


def _video(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts."""
    latents = torch.randn(1, _FRAMES, _CHANNELS, _SIZE, _SIZE, generator=generator)
    return {
        "hidden_states": torch.cat([latents, latents]),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "timestep": torch.tensor(500).expand(2),
        "image_rotary_emb": _rotary(),
        "attention_kwargs": None,
    }


def _person(generator: torch.Generator) -> dict[str, Any]:
    """Latents beside those of the picture, and what two encoders see of the face."""
    inputs = _video(generator)
    picture = torch.randn(1, _FRAMES, _CHANNELS, _SIZE, _SIZE, generator=generator)
    inputs["hidden_states"] = torch.cat([inputs["hidden_states"], torch.cat([picture, picture])], dim=2)
    inputs["id_vit_hidden"] = [
        torch.randn(1, _FACE_TOKENS, _FACE_DIM, generator=generator).expand(2, -1, -1) for _ in range(_FACE_SCALES)
    ]
    inputs["id_cond"] = torch.randn(1, _IDENTITY_DIM, generator=generator).expand(2, -1)
    return inputs


_COMMON: dict[str, Any] = {
    "num_attention_heads": _HEADS,
    "attention_head_dim": _HEAD_DIM,
    "in_channels": _CHANNELS,
    "out_channels": _CHANNELS,
    "time_embed_dim": 32,
    "text_embed_dim": _TEXT_DIM,
    "num_layers": 2,
    "sample_width": _SIZE,
    "sample_height": _SIZE,
    "sample_frames": 4 * (_FRAMES - 1) + 1,
    "max_text_seq_length": _TEXT_TOKENS,
    "use_rotary_positional_embeddings": True,
}

TINY: tuple[Tiny, ...] = (
    Tiny(name="CogVideoXTransformer3DModel", config=_COMMON, inputs=_video),
    Tiny(
        name="ConsisIDTransformer3DModel",
        config={
            **_COMMON,
            "in_channels": 2 * _CHANNELS,
            "is_train_face": True,
            "cross_attn_interval": 1,
            "cross_attn_dim_head": 16,
            "cross_attn_num_heads": 2,
            "LFE_id_dim": _IDENTITY_DIM,
            "LFE_vit_dim": _FACE_DIM,
            "LFE_depth": 2,
            "LFE_dim_head": 16,
            "LFE_num_heads": 2,
            "LFE_num_id_token": 2,
            "LFE_num_querie": 4,
            "LFE_output_dim": _INNER * 2 // 3,
            "LFE_ff_mult": 2,
            "LFE_num_scale": _FACE_SCALES,
        },
        inputs=_person,
    ),
)

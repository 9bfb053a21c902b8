"""Tiny Wan models: text to video, VACE with a second list of blocks for control, and two that animate a character.

The blocks take everything by position. VACE's control blocks return pairs, and their first is built differently.
Animate adds a face encoder and an adapter after every block, a list of its own; it writes into its patches in place.
Animate 2 takes lists of tensors, a grid as a tensor that its blocks read as Python numbers, and a cache with the keys
and values of the driving video for every layer. Its self-attention is flex attention over a block mask that the first
forward compiles and the model keeps, so that even in eager it needs a C++ compiler and some seconds.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_FRAMES, _SIZE = 3, 8
_TEXT_TOKENS, _TEXT_DIM = 12, 48
_HEADS, _HEAD_DIM = 4, 16
_IMAGE_TOKENS, _IMAGE_DIM = 5, 32
_PADDED_TOKENS = 512  # what comes before the last 512 tokens, the blocks of Animate take for the image
_FACE_SIZE, _FACE_FRAMES = 16, 5  # five frames of a face make two latents
_CLIP_DIM = 1280  # fixed in Animate 2


def _text_to_video(generator: torch.Generator) -> dict[str, Any]:
    """Latents, a timestep and a prompt."""
    return {
        "hidden_states": torch.randn(1, _CHANNELS, _FRAMES, _SIZE, _SIZE, generator=generator),
        "timestep": torch.tensor(500).expand(1),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "attention_kwargs": None,
    }


def _control(generator: torch.Generator) -> dict[str, Any]:
    """The same beside latents of the control video, with a scale for every control block."""
    return {
        **_text_to_video(generator),
        "control_hidden_states": torch.randn(1, 2 * _CHANNELS, _FRAMES, _SIZE, _SIZE, generator=generator),
        "control_hidden_states_scale": torch.tensor([1.0, 0.5]),
    }


def _animate(generator: torch.Generator) -> dict[str, Any]:
    """Latents beside the reference, the pose in all frames but the first, and pixels of the face in -1..1."""
    return {
        "hidden_states": torch.randn(1, 2 * _CHANNELS + 4, _FRAMES, _SIZE, _SIZE, generator=generator),
        "timestep": torch.tensor(500).expand(1),
        "encoder_hidden_states": torch.randn(1, _PADDED_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_hidden_states_image": torch.randn(1, _IMAGE_TOKENS, _IMAGE_DIM, generator=generator),
        "pose_hidden_states": torch.randn(1, _CHANNELS, _FRAMES - 1, _SIZE, _SIZE, generator=generator),
        "face_pixel_values": torch.rand(1, 3, _FACE_FRAMES, _FACE_SIZE, _FACE_SIZE, generator=generator) * 2 - 1,
        "motion_encode_batch_size": None,
        "attention_kwargs": None,
    }


def _second_animate(generator: torch.Generator) -> dict[str, Any]:
    """A step after the pass over the driving video, whose keys and values are in the cache."""
    from diffusers.models.transformers.transformer_wan_animate_2 import WanAnimate2KVCache

    height = width = _SIZE // 2
    driving_tokens = (_FRAMES - 1) * height * width
    cache = WanAnimate2KVCache(2)
    for layer in cache.layer_caches:
        key, value = torch.randn(2, 1, driving_tokens, _HEADS, _HEAD_DIM, generator=generator)
        layer.store(key, value)
    return {
        "hidden_states": [torch.randn(_CHANNELS, _FRAMES, _SIZE, _SIZE, generator=generator)],
        "timestep": torch.tensor([500]),
        "encoder_hidden_states": [torch.randn(_TEXT_TOKENS - 3, _TEXT_DIM, generator=generator)],
        "condition_latents": [torch.randn(_CHANNELS + 4, _FRAMES, _SIZE, _SIZE, generator=generator)],
        "kv_cache": cache,
        "kv_cache_mode": "cached",
        "seq_len": _FRAMES * height * width,
        "reference_grid_sizes": torch.tensor([[_FRAMES - 1, height, width]]),
        "origin_len": 4 * (_FRAMES - 2) + 1,
        "origin_area": [8 * _SIZE, 8 * _SIZE],
        "is_uncondtion": False,
        "encoder_hidden_states_image": torch.randn(1, _IMAGE_TOKENS, _CLIP_DIM, generator=generator),
    }


_COMMON: dict[str, Any] = {
    "num_attention_heads": _HEADS,
    "attention_head_dim": _HEAD_DIM,
    "in_channels": _CHANNELS,
    "out_channels": _CHANNELS,
    "text_dim": _TEXT_DIM,
    "freq_dim": 32,
    "ffn_dim": 128,
    "num_layers": 2,
    "rope_max_seq_len": 32,
}

TINY: tuple[Tiny, ...] = (
    Tiny(name="WanTransformer3DModel", config=_COMMON, inputs=_text_to_video),
    Tiny(
        name="WanVACETransformer3DModel",
        config={**_COMMON, "vace_layers": [0, 1], "vace_in_channels": 2 * _CHANNELS},
        inputs=_control,
    ),
    Tiny(
        name="WanAnimateTransformer3DModel",
        config={
            **_COMMON,
            "in_channels": 2 * _CHANNELS + 4,
            "latent_channels": _CHANNELS,
            "image_dim": _IMAGE_DIM,
            "added_kv_proj_dim": _HEADS * _HEAD_DIM,
            "motion_encoder_channel_sizes": {"4": 16, "8": 16, "16": 8},
            "motion_encoder_size": _FACE_SIZE,
            "motion_style_dim": 16,
            "motion_dim": 4,
            "motion_encoder_dim": 16,
            "face_encoder_hidden_dim": 16,
            "face_encoder_num_heads": 2,
            "inject_face_latents_blocks": 1,
        },
        inputs=_animate,
    ),
    Tiny(
        name="WanAnimate2Transformer3DModel",
        config={
            "text_len": _TEXT_TOKENS,
            "in_dim": 2 * _CHANNELS + 4,
            "dim": _HEADS * _HEAD_DIM,
            "ffn_dim": 128,
            "freq_dim": 32,
            "text_dim": _TEXT_DIM,
            "out_dim": _CHANNELS,
            "num_heads": _HEADS,
            "num_layers": 2,
        },
        inputs=_second_animate,
    ),
)

"""Tiny SANA-WM models: a world model that follows a camera, and the refiner of what it makes.

The world model alternates a recurrence over frames with softmax attention, so that its two blocks differ; they take
everything by position, tuples of Python numbers and None among it. The refiner has the weights of LTX-2 with its sound,
which its forward leaves out; it goes over a video piece by piece and attends to keys and values that a cache object
holds for every layer, given to the blocks by keyword.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 8
_FRAMES, _SIZE = 3, 4
_TEXT_TOKENS, _TEXT_DIM = 12, 48
_HEADS, _HEAD_DIM = 4, 16
_DIM = _HEADS * _HEAD_DIM
_RAY_CHANNELS = 48  # six coordinates of a ray for each of the eight frames in a latent
_ACTIVE_FRAMES = 2
_SCALES, _RATE = (8, 32, 32), 24.0  # pixels per latent, frames per second


def _cameras() -> torch.Tensor:
    """A camera a latent that moves forward, ``(2, frames, 20)``: its flat 4 x 4 pose, focal lengths and centre."""
    pose = torch.eye(4).repeat(_FRAMES, 1, 1)
    pose[:, 2, 3] = 0.1 * torch.arange(_FRAMES)
    lens = torch.tensor([_SIZE, _SIZE, _SIZE / 2, _SIZE / 2]).expand(_FRAMES, 4)
    return torch.cat([pose.flatten(1), lens], dim=-1).repeat(2, 1, 1)


def _world(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts whose first frame is given, hence without noise."""
    latents = torch.randn(1, _CHANNELS, _FRAMES, _SIZE, _SIZE, generator=generator)
    rays = torch.randn(1, _RAY_CHANNELS, _FRAMES, _SIZE, _SIZE, generator=generator)
    mask = torch.ones(2, _TEXT_TOKENS, dtype=torch.int64)
    mask[0, 2:] = 0
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.tensor([0.0, 500.0, 500.0]).repeat(2, 1, 1),
        "encoder_hidden_states": torch.randn(2, 1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "data_info": {"img_hw": torch.tensor([[32.0 * _SIZE, 32.0 * _SIZE]])},
        "mask": mask,
        "camera_conditions": _cameras(),
        "chunk_plucker": torch.cat([rays, rays]),
    }


def _rotations(frames: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The refiner's rotary tables for latents of these frames."""
    from diffusers.models.transformers.transformer_sana_wm_refiner import SanaWMLTX2AudioVideoRotaryPosEmbed

    rope = SanaWMLTX2AudioVideoRotaryPosEmbed(
        dim=_DIM, scale_factors=_SCALES, modality="video", rope_type="split", num_attention_heads=_HEADS
    )
    size = torch.arange(float(_SIZE))
    grid = torch.cartesian_prod(torch.tensor(frames, dtype=torch.float32), size, size).T
    bounds = torch.stack([grid, grid + 1], dim=-1) * torch.tensor(_SCALES).view(3, 1, 1)
    # The first latent holds a single frame.
    bounds[0] = (bounds[0] + 1 - _SCALES[0]).clamp(min=0) / _RATE
    cosines, sines = rope(bounds[None], device="cpu")
    return cosines, sines


def _refiner(generator: torch.Generator) -> dict[str, Any]:
    """Two frames in noise after the video's first and the one before them, which are in the cache."""
    from diffusers.models.transformers.transformer_sana_wm_refiner import SanaWMRefinerKVCache

    frame = _SIZE * _SIZE
    cache = SanaWMRefinerKVCache(2)
    cache.sink_pe = _rotations([0])
    for layer in cache.layer_caches:
        first, before = torch.randn(2, 2, 1, frame, _DIM, generator=generator)
        layer.store_sink(first[0], first[1])
        layer.store_history(before[0], before[1])
    mask = torch.ones(1, _TEXT_TOKENS, dtype=torch.int64)
    mask[:, :3] = 0
    return {
        "hidden_states": torch.randn(1, _ACTIVE_FRAMES * frame, _CHANNELS, generator=generator),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "timestep": torch.full((1, _ACTIVE_FRAMES * frame), 500.0),
        "video_rotary_emb": _rotations([2, 3]),
        "encoder_attention_mask": mask,
        "kv_cache": cache,
        "kv_cache_mode": "inject",
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="SanaWMTransformer3DModel",
        config={
            "in_channels": _CHANNELS,
            "num_layers": 2,
            "hidden_size": _DIM,
            "num_attention_heads": _HEADS,
            "softmax_every_n": 2,
            "linear_head_dim": _HEAD_DIM,
            "chunk_plucker_channels": _RAY_CHANNELS,
            "chunk_plucker_post_attn_blocks": 2,
            "image_size": 32 * _SIZE,
            "caption_channels": _TEXT_DIM,
            "mlp_ratio": 2.0,
        },
        inputs=_world,
    ),
    Tiny(
        name="SanaWMLTX2RefinerTransformer3DModel",
        config={
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "num_attention_heads": _HEADS,
            "attention_head_dim": _HEAD_DIM,
            "cross_attention_dim": _DIM,
            "vae_scale_factors": _SCALES,
            "audio_in_channels": _CHANNELS,
            "audio_out_channels": _CHANNELS,
            "audio_num_attention_heads": 2,
            "audio_attention_head_dim": 16,
            "audio_cross_attention_dim": 32,
            "num_layers": 2,
            "caption_channels": _TEXT_DIM,
            "rope_type": "split",
        },
        inputs=_refiner,
    ),
)

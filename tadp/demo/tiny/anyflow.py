"""Tiny AnyFlow models: one makes a whole video at once, the other chunk by chunk from a cache of keys and values.

Both take a time to start from and one to arrive at, each per frame, and their latents have frames before channels.
Blocks take everything by position: the rotary argument is a dictionary of complex numbers, the mask is None, and the
second model's blocks get their layer's cache and a dictionary of lengths beside it. The forward writes two lengths into
that dictionary. The second model attends with flex attention, which outside of a compiled graph runs unfused, and
returns the cache as a second output.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_FRAMES, _SIZE = 3, 8
_TEXT_TOKENS, _TEXT_DIM = 12, 48
_HEADS, _HEAD_DIM, _LAYERS = 4, 16, 2
_CHUNKS = [1, 2, 2]  # frames in every chunk; the first two are in the cache, the first one of them compressed
_FULL_CHUNKS = 2


def _step(generator: torch.Generator, frames: int) -> dict[str, Any]:
    """Latents of a pair of prompts, on the way from one time to a lower one."""
    latents = torch.randn(1, frames, _CHANNELS, _SIZE, _SIZE, generator=generator)
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.full((2, frames), 500.0),
        "r_timestep": torch.full((2, frames), 250.0),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "attention_kwargs": None,
    }


def _whole(generator: torch.Generator) -> dict[str, Any]:
    """A step of a whole video."""
    return _step(generator, _FRAMES)


def _chunk(generator: torch.Generator) -> dict[str, Any]:
    """A step of the third chunk, with the two before it in the cache."""
    full, compressed = (_SIZE // 2) ** 2, (_SIZE // 4) ** 2  # tokens of a frame
    sizes = {
        "full_cache": _FULL_CHUNKS * max(_CHUNKS) * full,
        "compressed_cache": (len(_CHUNKS) - _FULL_CHUNKS + 1) * max(_CHUNKS) * compressed,
    }
    inputs = _step(generator, _CHUNKS[-1])
    inputs["chunk_partition"] = list(_CHUNKS)
    inputs["kv_cache"] = [
        {name: torch.randn(2, 2, _HEADS, size, _HEAD_DIM, generator=generator) for name, size in sizes.items()}
        for _ in range(_LAYERS)
    ]
    inputs["kv_cache_flag"] = {"num_cached_chunks": len(_CHUNKS) - 1, "is_cache_step": False}
    return inputs


_COMMON: dict[str, Any] = {
    "num_attention_heads": _HEADS,
    "attention_head_dim": _HEAD_DIM,
    "in_channels": _CHANNELS,
    "out_channels": _CHANNELS,
    "text_dim": _TEXT_DIM,
    "freq_dim": 32,
    "ffn_dim": 128,
    "num_layers": _LAYERS,
    "rope_max_seq_len": 32,
}

TINY: tuple[Tiny, ...] = (
    Tiny(name="AnyFlowTransformer3DModel", config=_COMMON, inputs=_whole),
    Tiny(
        name="AnyFlowFARTransformer3DModel",
        config={**_COMMON, "full_chunk_limit": _FULL_CHUNKS, "chunk_partition": tuple(_CHUNKS)},
        inputs=_chunk,
    ),
)

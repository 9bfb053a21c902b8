"""A tiny Helios: a chunk of video after latents of its past at three scales, the older the coarser.

Past and present run through the blocks as one sequence and part again inside them, since only the present attends to
the prompt; the past counts as noiseless. Blocks take everything by position, the last one the length of the present as
a Python number.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_HEIGHT, _WIDTH = 8, 8
_LONG, _MIDDLE, _SHORT, _CHUNK = 4, 2, 1, 3  # frames
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _frames(count: int, generator: torch.Generator) -> torch.Tensor:
    """Latents of so many frames."""
    return torch.randn(1, _CHANNELS, count, _HEIGHT, _WIDTH, generator=generator)


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """A chunk with its past, in which the first frame of the video stands beside the last one."""
    first, long, middle, short, chunk = (
        indices[None]
        for indices in torch.arange(1 + _LONG + _MIDDLE + _SHORT + _CHUNK).split([1, _LONG, _MIDDLE, _SHORT, _CHUNK])
    )
    return {
        "hidden_states": _frames(_CHUNK, generator),
        "timestep": torch.tensor(500.0).expand(1),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "indices_hidden_states": chunk,
        "indices_latents_history_short": torch.cat([first, short], dim=1),
        "indices_latents_history_mid": middle,
        "indices_latents_history_long": long,
        "latents_history_short": _frames(1 + _SHORT, generator),
        "latents_history_mid": _frames(_MIDDLE, generator),
        "latents_history_long": _frames(_LONG, generator),
        "attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="HeliosTransformer3DModel",
        config={
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "text_dim": _TEXT_DIM,
            "freq_dim": 32,
            "ffn_dim": 128,
            "num_layers": 2,
            "rope_dim": (4, 6, 6),
        },
        inputs=_inputs,
    ),
)

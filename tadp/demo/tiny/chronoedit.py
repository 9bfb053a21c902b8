"""A tiny ChronoEdit: Wan's blocks over two frames, the picture and its edit, that count as far apart in time.

The blocks take what comes before the last 512 tokens of the condition for tokens of the image, so that the prompt is as
long as that.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_TEXT_TOKENS, _TEXT_DIM = 512, 48
_IMAGE_TOKENS, _IMAGE_DIM = 5, 32
_HEADS, _HEAD_DIM = 4, 16


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents beside the picture's and a mask of known frames, as 2 * channels + 4 of them."""
    return {
        "hidden_states": torch.randn(1, 2 * _CHANNELS + 4, 2, 8, 8, generator=generator),
        "timestep": torch.tensor(500).expand(1),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_hidden_states_image": torch.randn(1, _IMAGE_TOKENS, _IMAGE_DIM, generator=generator),
        "attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="ChronoEditTransformer3DModel",
        config={
            "num_attention_heads": _HEADS,
            "attention_head_dim": _HEAD_DIM,
            "in_channels": 2 * _CHANNELS + 4,
            "out_channels": _CHANNELS,
            "text_dim": _TEXT_DIM,
            "freq_dim": 32,
            "ffn_dim": 128,
            "num_layers": 2,
            "image_dim": _IMAGE_DIM,
            "added_kv_proj_dim": _HEADS * _HEAD_DIM,
            "rope_max_seq_len": 32,
        },
        inputs=_inputs,
    ),
)

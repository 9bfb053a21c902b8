"""A tiny transformer of DreamLite's U-Net: one of many in it, on a map of features between convolutions.

It knows no time, adds its result to its input, and uses as many heads for keys as for queries: fewer need a processor
that only the U-Net sets. Blocks take the tokens by position and the rest by keyword, most of it None.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 64
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Features of a pair of prompts, and a bias that hides the end of the unconditional one."""
    bias = torch.zeros(2, 1, _TEXT_TOKENS)
    bias[0, :, 4:] = -10000.0
    return {
        "hidden_states": torch.randn(2, _CHANNELS, 4, 6, generator=generator),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "cross_attention_kwargs": None,
        "attention_mask": None,
        "encoder_attention_mask": bias,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="DreamLiteTransformer2DModel",
        config={
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "in_channels": _CHANNELS,
            "num_layers": 2,
            "norm_num_groups": 8,
            "cross_attention_dim": _TEXT_DIM,
            "use_linear_projection": True,
            "qk_norm": "rms_norm",
        },
        inputs=_inputs,
    ),
)

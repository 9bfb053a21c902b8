"""A tiny DiT, which makes images of a class.

Time and class are embedded anew in every block; blocks take the tokens by position and the rest by keyword, most of it
None. Half of the output channels are variances. Images are square.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_SIZE = 8
_CLASSES = 10


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents of an image with a class and of the same one without, for which stands the class after the last."""
    latents = torch.randn(1, _CHANNELS, _SIZE, _SIZE, generator=generator)
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.tensor(500)[None].expand(2),
        "class_labels": torch.tensor([3, _CLASSES]),
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="DiTTransformer2DModel",
        config={
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "in_channels": _CHANNELS,
            "out_channels": 2 * _CHANNELS,
            "num_layers": 2,
            "sample_size": _SIZE,
            "num_embeds_ada_norm": _CLASSES,
        },
        inputs=_inputs,
    ),
)

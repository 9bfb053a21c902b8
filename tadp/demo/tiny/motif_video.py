"""A tiny Motif-Video: double-stream blocks, single-stream blocks, and a second pass of single-stream blocks as decoder.

The single-stream list holds two blocks of each pass, four in all, since they are called differently: the decoder's
attend to the encoder's result in place of text. Blocks take their arguments by position and return both streams.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_TEXT_TOKENS, _TEXT_DIM = 12, 48


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents beside an empty condition and its empty mask, as for video from text alone."""
    latents = torch.randn(1, _CHANNELS, 3, 8, 8, generator=generator)
    mask = torch.ones(1, _TEXT_TOKENS, dtype=torch.int64)
    mask[:, 9:] = 0
    return {
        "hidden_states": torch.cat([latents, torch.zeros_like(latents), torch.zeros_like(latents[:, :1])], dim=1),
        "timestep": torch.tensor(500.0).expand(1),
        "attention_kwargs": None,
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_attention_mask": mask,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="MotifVideoTransformer3DModel",
        config={
            "in_channels": 2 * _CHANNELS + 1,
            "out_channels": _CHANNELS,
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "num_layers": 2,
            "num_single_layers": 4,
            "num_decoder_layers": 2,
            "mlp_ratio": 2.0,
            "text_embed_dim": _TEXT_DIM,
            "rope_axes_dim": (4, 6, 6),
            "enable_text_cross_attention_dual": True,
            "enable_text_cross_attention_single": True,
        },
        inputs=_inputs,
    ),
)

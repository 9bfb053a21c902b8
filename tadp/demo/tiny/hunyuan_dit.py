"""A tiny Hunyuan-DiT: cross-attention to two prompts at once, and long skip connections as in a U-Net.

It has four blocks since the last one is the first to take a skip connection, by keyword, and is built with a layer more
for it. Blocks take the tokens by position and the rest by keyword. Masked tokens of the prompts are replaced by learned
ones. Half of the output channels are variances.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_HEIGHT, _WIDTH = 8, 12
_HEADS, _HEAD_DIM = 4, 16
_TOKENS, _DIM = 8, 48
_T5_TOKENS, _T5_DIM = 6, 32  # the attention that pools these has eight heads


def _rotary() -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines ``(tokens, head dim)``, half of the channels for columns and half for rows."""
    half = _HEAD_DIM // 2
    frequencies = 10000.0 ** (-torch.arange(0, half, 2) / half)
    rows, columns = torch.cartesian_prod(torch.arange(float(_HEIGHT // 2)), torch.arange(float(_WIDTH // 2))).T
    angles = torch.cat([axis.outer(frequencies).repeat_interleave(2, dim=1) for axis in (columns, rows)], dim=1)
    return angles.cos(), angles.sin()


def _mask(tokens: int) -> torch.Tensor:
    """A mask ``(2, tokens)`` in which both prompts are padded, the unconditional one more."""
    mask = torch.ones(2, tokens, dtype=torch.int64)
    mask[0, 2:] = 0
    mask[1, tokens - 2 :] = 0
    return mask


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts, the sizes before and after the crop in pixels, and the only style there is."""
    latents = torch.randn(1, _CHANNELS, _HEIGHT, _WIDTH, generator=generator)
    height, width = 8.0 * _HEIGHT, 8.0 * _WIDTH
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.tensor([500.0, 500.0]),
        "encoder_hidden_states": torch.randn(2, _TOKENS, _DIM, generator=generator),
        "text_embedding_mask": _mask(_TOKENS),
        "encoder_hidden_states_t5": torch.randn(2, _T5_TOKENS, _T5_DIM, generator=generator),
        "text_embedding_mask_t5": _mask(_T5_TOKENS),
        "image_meta_size": torch.tensor([[height, width, height, width, 0.0, 0.0]]).repeat(2, 1),
        "style": torch.tensor([0, 0]),
        "image_rotary_emb": _rotary(),
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="HunyuanDiT2DModel",
        config={
            "num_attention_heads": _HEADS,
            "attention_head_dim": _HEAD_DIM,
            "in_channels": _CHANNELS,
            "patch_size": 2,
            "sample_size": 16,
            "hidden_size": _HEADS * _HEAD_DIM,
            "num_layers": 4,
            "mlp_ratio": 2.0,
            "cross_attention_dim": _DIM,
            "cross_attention_dim_t5": _T5_DIM,
            "pooled_projection_dim": 32,
            "text_len": _TOKENS,
            "text_len_t5": _T5_TOKENS,
        },
        inputs=_inputs,
    ),
)

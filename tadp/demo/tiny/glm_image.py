"""A tiny GLM-Image: an image that follows tokens of a coarse draft, with glyphs of text beside it.

The draft adds an embedding to every patch, unless it is dropped, and is written in place. The blocks take everything by
position, two None among it, and by keyword their layer of a cache that is neither read nor written without images to
edit. They return a pair. Query and key are rotated in place, in the part of the image.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_HEIGHT, _WIDTH = 8, 12
_TEXT_TOKENS, _TEXT_DIM = 12, 48
_LAYERS = 2
_CODES = 64


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents, a draft as large as the image in patches, the size in pixels, and a cache in no mode."""
    from diffusers.models.transformers.transformer_glm_image import GlmImageKVCache

    patches = _HEIGHT * _WIDTH // 4
    return {
        "hidden_states": torch.randn(1, _CHANNELS, _HEIGHT, _WIDTH, generator=generator),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "prior_token_id": torch.randint(_CODES, (1, patches), generator=generator),
        "prior_token_drop": torch.zeros(1, patches, dtype=torch.bool),
        "timestep": torch.tensor(500.0).expand(1) - 1,
        "target_size": torch.tensor([[8.0 * _HEIGHT, 8.0 * _WIDTH]]),
        "crop_coords": torch.zeros(1, 2),
        "attention_kwargs": None,
        "kv_caches": GlmImageKVCache(num_layers=_LAYERS),
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="GlmImageTransformer2DModel",
        config={
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "num_layers": _LAYERS,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "text_embed_dim": _TEXT_DIM,
            "time_embed_dim": 32,
            "condition_dim": 16,
            "prior_vq_quantizer_codebook_size": _CODES,
        },
        inputs=_inputs,
    ),
)

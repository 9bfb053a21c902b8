"""A tiny HiDream-I1: double-stream and single-stream blocks with routed experts.

Every block adds another layer of a language model to its tokens and drops these tokens after it. Entries of the lists
wrap the blocks in a module of one attribute; they take everything by keyword, None among it. The experts' share of
tokens is counted on the CPU, with NumPy, and each runs on as many tokens as chose it.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_SIZE = 8
_T5_TOKENS, _T5_DIM = 6, 40
_LLAMA_TOKENS, _LLAMA_DIM, _LLAMA_LAYERS = 10, 48, 4
_POOLED_DIM = 32


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents of a pair of prompts, square, so that nothing is padded."""
    latents = torch.randn(1, _CHANNELS, _SIZE, _SIZE, generator=generator)
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timesteps": torch.tensor(500.0).expand(2),
        "encoder_hidden_states_t5": torch.randn(2, _T5_TOKENS, _T5_DIM, generator=generator),
        "encoder_hidden_states_llama3": torch.randn(_LLAMA_LAYERS, 2, _LLAMA_TOKENS, _LLAMA_DIM, generator=generator),
        "pooled_embeds": torch.randn(2, _POOLED_DIM, generator=generator),
        "attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="HiDreamImageTransformer2DModel",
        config={
            "patch_size": 2,
            "in_channels": _CHANNELS,
            "num_layers": 2,
            "num_single_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "caption_channels": [_T5_DIM, _LLAMA_DIM],
            "text_emb_dim": _POOLED_DIM,
            "num_routed_experts": 4,
            "num_activated_experts": 2,
            "axes_dims_rope": (8, 4, 4),
            "max_resolution": (16, 16),
            "llama_layers": [0, 1, 2, 3],
        },
        inputs=_inputs,
    ),
)

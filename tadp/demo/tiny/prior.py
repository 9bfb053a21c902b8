"""A tiny prior as in unCLIP and Kandinsky: it predicts one image embedding from the tokens of a prompt.

Attention is causal; only the last token is read.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_DIM = 32
_TEXT_TOKENS = 12


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Embeddings of a pair of prompts, the unconditional one shorter, and a timestep without dimensions."""
    latents = torch.randn(1, _DIM, generator=generator)
    mask = torch.ones(2, _TEXT_TOKENS, dtype=torch.bool)
    mask[0, 2:] = False
    return {
        "hidden_states": torch.cat([latents, latents]),
        "timestep": torch.tensor(500),
        "proj_embedding": torch.randn(2, _DIM, generator=generator),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _DIM, generator=generator),
        "attention_mask": mask,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="PriorTransformer",
        config={
            "num_attention_heads": 4,
            "attention_head_dim": 16,
            "num_layers": 2,
            "embedding_dim": _DIM,
            "num_embeddings": _TEXT_TOKENS,
            "additional_embeddings": 4,
        },
        inputs=_inputs,
    ),
)

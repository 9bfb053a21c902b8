"""A tiny Nucleus-MoE-Image: a dense block, then a block with experts that choose their tokens.

The weights of the experts are three-dimensional parameters, not linear layers, and diffusers leaves them as memory
happens to be; they are drawn here. With `use_grouped_mm=False`, the default, the block reads the number of tokens of
every expert back as Python numbers.
"""

from dataclasses import dataclass
from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 16
_HEIGHT, _WIDTH = 4, 6
_TEXT_TOKENS, _TEXT_DIM = 12, 48


@dataclass(frozen=True)
class _WithExperts(Tiny):
    """A tiny model whose experts get weights."""

    def model(self, seed: int = 0) -> torch.nn.Module:
        model = super().model(seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".experts." in name:
                    parameter.normal_(0.0, parameter.shape[1] ** -0.5, generator=generator)
        return model


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Packed latents of two prompts, the second one shorter, and a time in 0..1."""
    mask = torch.ones(2, _TEXT_TOKENS, dtype=torch.int64)
    mask[1, 7:] = 0
    return {
        "hidden_states": torch.randn(2, _HEIGHT * _WIDTH, _CHANNELS, generator=generator),
        "timestep": torch.tensor(0.5).expand(2),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_hidden_states_mask": mask,
        "img_shapes": [(1, _HEIGHT, _WIDTH)] * 2,
        "attention_kwargs": None,
    }


TINY: tuple[Tiny, ...] = (
    _WithExperts(
        name="NucleusMoEImageTransformer2DModel",
        config={
            "patch_size": 2,
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS // 4,
            "num_layers": 2,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "joint_attention_dim": _TEXT_DIM,
            "axes_dims_rope": (4, 6, 6),
            "dense_moe_strategy": "leave_first_block_dense",
            "num_experts": 4,
            "moe_intermediate_dim": 32,
            "capacity_factors": 2.0,
        },
        inputs=_inputs,
    ),
)

"""Tiny JoyImage-Edit models: one edits an image of the same size, the other images of any sizes.

The first takes images stacked in a dimension of its own, the noisy one last. The second takes loose patches, padded to
the longest of the batch, and their grids as lists of Python numbers. Blocks take everything by keyword and return both
streams. The rotary argument of the first is a pair of a pair and None, that of the second has a batch.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_TEXT_TOKENS, _TEXT_DIM = 12, 48
_GRIDS = [(1, 4, 4), (1, 4, 6)]  # of patches: of the image to make, then of the one to edit
_PATCH = (1, 2, 2)


def _edit(generator: torch.Generator) -> dict[str, Any]:
    """Latents of an image to edit and of the noisy one."""
    return {
        "hidden_states": torch.randn(1, 2, _CHANNELS, 1, 8, 8, generator=generator),
        "timestep": torch.tensor(500.0).repeat(1),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
    }


def _edit_plus(generator: torch.Generator) -> dict[str, Any]:
    """Patches of a pair of prompts, the unconditional one shorter."""
    patches = torch.randn(1, sum(t * h * w for t, h, w in _GRIDS), _CHANNELS, *_PATCH, generator=generator)
    mask = torch.ones(2, _TEXT_TOKENS, dtype=torch.int64)
    mask[0, 8:] = 0
    return {
        "hidden_states": torch.cat([patches, patches]),
        "timestep": torch.tensor(500.0).repeat(2),
        "encoder_hidden_states": torch.randn(2, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "encoder_hidden_states_mask": mask,
        "shape_list": [list(_GRIDS), list(_GRIDS)],
    }


_COMMON: dict[str, Any] = {
    "patch_size": list(_PATCH),
    "in_channels": _CHANNELS,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "text_dim": _TEXT_DIM,
    "mlp_width_ratio": 2.0,
    "num_layers": 2,
    "rope_dim_list": [4, 6, 6],
}

TINY: tuple[Tiny, ...] = (
    Tiny(name="JoyImageEditTransformer3DModel", config=_COMMON, inputs=_edit),
    Tiny(name="JoyImageEditPlusTransformer3DModel", config=_COMMON, inputs=_edit_plus),
)

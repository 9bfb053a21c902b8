"""A tiny OmniGen: a language model whose sequence ends with the image that is being made.

The inputs edit one image: the batch holds the full instruction, an empty one, and the image alone. Input images come as
a list, and where they go as a dictionary of lists. The rotary embedding replaces a buffer of its module in every
forward, and its branch for long sequences depends on the values of the positions.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_VOCABULARY, _PADDING = 64, 2
_INPUT_TOKENS = 4  # an input image of 4 x 4 latents
_IMAGE_TOKENS = 12  # an output image of 6 x 8 latents
_LENGTHS = (12, 6, 8)  # of the three prompts, padded on the left
_STARTS: dict[int, int] = {0: 3, 2: 6}  # of the input image in the padded prompts that have one


def _sequence() -> tuple[torch.Tensor, torch.Tensor]:
    """What may attend to what ``(3, tokens, tokens)``, and positions ``(3, tokens)``: prompt, time token, output image.

    Prompts are causal, an image sees all of itself and of what precedes it.
    """
    longest = max(_LENGTHS)
    tokens = longest + 1 + _IMAGE_TOKENS
    visible = torch.tril(torch.ones(3, tokens, tokens))
    visible[:, longest + 1 :] = 1.0
    positions = torch.zeros(3, tokens, dtype=torch.int64)
    for row, length in enumerate(_LENGTHS):
        padding = longest - length
        visible[row, padding:, :padding] = 0.0
        visible[row, :padding] = 1.0
        positions[row, padding:] = torch.arange(tokens - padding)
    for row, start in _STARTS.items():
        image = slice(start, start + _INPUT_TOKENS)
        visible[row, image, image] = 1.0
    return visible, positions


def _inputs(generator: torch.Generator) -> dict[str, Any]:
    """Latents three times over, token ids with placeholders for the input image, and a time in 0..1."""
    latents = torch.randn(1, _CHANNELS, 6, 8, generator=generator)
    image = torch.randn(1, _CHANNELS, 4, 4, generator=generator)
    ids = torch.randint(3, _VOCABULARY, (3, max(_LENGTHS)), generator=generator)
    for row, length in enumerate(_LENGTHS):
        ids[row, : max(_LENGTHS) - length] = _PADDING
    for row, start in _STARTS.items():
        ids[row, start : start + _INPUT_TOKENS] = 0
    visible, positions = _sequence()
    return {
        "hidden_states": torch.cat([latents] * 3),
        "timestep": torch.tensor(0.5).expand(3),
        "input_ids": ids,
        "input_img_latents": [image, image.clone()],
        "input_image_sizes": {row: [[start, start + _INPUT_TOKENS]] for row, start in _STARTS.items()},
        "attention_mask": visible,
        "position_ids": positions,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="OmniGenTransformer2DModel",
        config={
            "in_channels": _CHANNELS,
            "patch_size": 2,
            "hidden_size": 64,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "intermediate_size": 128,
            "num_layers": 2,
            "pad_token_id": _PADDING,
            "vocab_size": _VOCABULARY,
            "max_position_embeddings": 1024,
            "original_max_position_embeddings": 128,
            "rope_scaling": {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8},
            "pos_embed_max_size": 16,
            "time_step_dim": 32,
        },
        inputs=_inputs,
    ),
)

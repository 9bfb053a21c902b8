"""Tiny Cosmos models: Cosmos 1 with text beside the video, and Cosmos 3 with both in one sequence.

Cosmos 1 usually sees a mask of padded pixels in one more channel. It resizes the mask with torchvision, which tadp does
not install, so that the configuration leaves the channel out and the mask is ignored. Its blocks take everything by
position, two None among it.

Cosmos 3 takes no batch: a list of videos, where their tokens go in the sequence, and lengths as Python numbers. Its
blocks take text and video apart, by position, with four rotary tables in a tuple, and return both; the text attends to
what comes before it. The first output is a list with a tensor for every video, those of sound and actions are None. The
last block's text, the embedded text's head and the norm after it are computed for nothing or not at all.
"""

from typing import Any

import torch

from tadp.demo.tiny.tiny import Tiny

_CHANNELS = 4
_FRAMES, _HEIGHT, _WIDTH = 3, 8, 8
_TEXT_TOKENS, _TEXT_DIM = 12, 48
_HEADS, _HEAD_DIM = 4, 16
_VOCABULARY = 64
_MARGIN = 15000  # by which the video comes after the text in time


def _first(generator: torch.Generator) -> dict[str, Any]:
    """Scaled latents, a time that is a quarter of the noise's logarithm, and a mask with nothing padded."""
    return {
        "hidden_states": torch.randn(1, _CHANNELS, _FRAMES, _HEIGHT, _WIDTH, generator=generator),
        "timestep": torch.tensor(0.5).expand(1),
        "encoder_hidden_states": torch.randn(1, _TEXT_TOKENS, _TEXT_DIM, generator=generator),
        "fps": 30,
        "padding_mask": torch.zeros(1, 1, 8 * _HEIGHT, 8 * _WIDTH),
    }


def _third(generator: torch.Generator) -> dict[str, Any]:
    """One sequence of a prompt and a video, all of whose frames are noise."""
    rows, columns = _HEIGHT // 2, _WIDTH // 2
    video_tokens = _FRAMES * rows * columns
    text = torch.arange(float(_TEXT_TOKENS)).expand(3, -1)
    frames = torch.arange(float(_FRAMES)) + _TEXT_TOKENS + _MARGIN
    video = torch.cartesian_prod(frames, torch.arange(float(rows)), torch.arange(float(columns))).T
    places = torch.arange(_TEXT_TOKENS, _TEXT_TOKENS + video_tokens)
    return {
        "input_ids": torch.randint(_VOCABULARY, (_TEXT_TOKENS,), generator=generator),
        "text_indexes": torch.arange(_TEXT_TOKENS),
        "position_ids": torch.cat([text, video], dim=1),
        "und_len": _TEXT_TOKENS,
        "sequence_length": _TEXT_TOKENS + video_tokens,
        "vision_tokens": [torch.randn(1, _CHANNELS, _FRAMES, _HEIGHT, _WIDTH, generator=generator)],
        "vision_token_shapes": [(_FRAMES, rows, columns)],
        "vision_sequence_indexes": places,
        "vision_mse_loss_indexes": places.clone(),
        "vision_timesteps": torch.full((video_tokens,), 500.0),
        "vision_noisy_frame_indexes": [torch.arange(_FRAMES)],
        **{
            f"{kind}_{field}": None
            for kind in ("sound", "action")
            for field in (
                "tokens",
                "token_shapes",
                "sequence_indexes",
                "mse_loss_indexes",
                "timesteps",
                "noisy_frame_indexes",
            )
        },
        "action_domain_ids": None,
    }


TINY: tuple[Tiny, ...] = (
    Tiny(
        name="CosmosTransformer3DModel",
        config={
            "in_channels": _CHANNELS,
            "out_channels": _CHANNELS,
            "num_attention_heads": _HEADS,
            "attention_head_dim": _HEAD_DIM,
            "num_layers": 2,
            "mlp_ratio": 2,
            "text_embed_dim": _TEXT_DIM,
            "adaln_lora_dim": 16,
            "max_size": (4, 16, 16),
            "concat_padding_mask": False,
        },
        inputs=_first,
    ),
    Tiny(
        name="Cosmos3OmniTransformer",
        config={
            "head_dim": _HEAD_DIM,
            "hidden_size": 64,
            "intermediate_size": 128,
            "latent_channel": _CHANNELS,
            "num_attention_heads": _HEADS,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "patch_latent_dim": 4 * _CHANNELS,
            "vocab_size": _VOCABULARY,
            "rope_axes_dim": (4, 2, 2),
            "unified_3d_mrope_temporal_modality_margin": _MARGIN,
        },
        inputs=_third,
    ),
)

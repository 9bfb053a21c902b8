"""A teacher of the few-step model that takes no time: one block of random weights."""

import pytest
import torch
from diffusers import WanTransformer3DModel

from tadp.demo.architecture import LATENT_CHANNELS, TEXT_DIM, make_text_encoder, make_tokenizer
from tadp.demo.trajectories import Teacher


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    torch.manual_seed(0)
    transformer = WanTransformer3DModel(
        patch_size=(1, 1, 1),
        num_attention_heads=1,
        attention_head_dim=32,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_DIM,
        freq_dim=32,
        ffn_dim=32,
        num_layers=1,
        rope_max_seq_len=64,
    )
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.1)
    return Teacher(
        transformer.eval().requires_grad_(False), make_text_encoder().eval().requires_grad_(False), make_tokenizer()
    )

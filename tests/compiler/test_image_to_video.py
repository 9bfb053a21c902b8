"""Image-to-video pipelines, untrained and tiny, with an image encoder as Wan 2.1 and a noise for each token as 2.2."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

import tadp
from tadp.demo.architecture import (
    LATENT_CHANNELS,
    TEXT_DIM,
    make_autoencoder,
    make_scheduler,
    make_text_encoder,
    make_tokenizer,
)
from tadp.precision import L0, L8, L16, Recipe, Role

pytestmark = pytest.mark.compiles

CALL = {
    "prompt": "a red circle moves left",
    "height": 32,
    "width": 32,
    "num_frames": 5,
    "num_inference_steps": 8,
    "guidance_scale": 3.0,
    "max_sequence_length": 512,  # what diffusers takes the text to have, to find where the image begins
    "output_type": "np",
}
SIDE = 64  # channels of the image encoder


def _pipeline(image_encoder: bool) -> WanImageToVideoPipeline:
    torch.manual_seed(0)
    encoder = CLIPVisionConfig(
        hidden_size=SIDE, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    options: dict[str, Any] = {"image_dim": SIDE, "added_kv_proj_dim": 64} if image_encoder else {}
    transformer = WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=32,
        in_channels=2 * LATENT_CHANNELS + 4 if image_encoder else LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_DIM,
        freq_dim=32,
        ffn_dim=128,
        num_layers=4,
        rope_max_seq_len=32,
        **options,
    )
    pipeline = WanImageToVideoPipeline(
        tokenizer=make_tokenizer(),
        text_encoder=make_text_encoder().bfloat16(),
        vae=make_autoencoder().bfloat16(),
        transformer=transformer.bfloat16().eval(),
        scheduler=make_scheduler(),
        image_encoder=CLIPVisionModel(encoder).bfloat16() if image_encoder else None,
        image_processor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32) if image_encoder else None,
        expand_timesteps=not image_encoder,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def _clip(pipeline: WanImageToVideoPipeline) -> np.ndarray:
    found: np.ndarray = pipeline(image=_image(), generator=torch.Generator().manual_seed(3), **CALL).frames
    return found


@pytest.mark.parametrize("image_encoder", [True, False], ids=["image encoder", "noise for each token"])
def test_an_image_is_scored_and_its_steps_are_followed(image_encoder: bool) -> None:
    torch._dynamo.reset()
    pipeline = _pipeline(image_encoder)
    plain = _clip(pipeline)
    compiled = tadp.compile(pipeline, policy="complexity:reuse=inf", precompile=False)
    found = _clip(compiled)
    score, records = compiled.tadp.score, compiled.tadp.history
    assert min(score.text, score.image, score.feature) > 0
    assert [record.step for record in records] == [step for step in range(1, 9) for _ in range(2)]
    assert [record.phase for record in records[::2]] == ["probe"] * 2 + ["run"] * 6
    timesteps = [record.timestep for record in records[::2]]
    assert all(later < earlier for earlier, later in pairwise(timesteps))
    recipes = [record.plan["blocks.1"] for record in records[::2]]
    assert recipes[0].default == L16
    assert L8 in {recipe.default for recipe in recipes}
    assert Recipe(L0) in recipes
    assert np.square(found - plain).mean() < 1e-3
    roles = {layer.role for layer in compiled.tadp.layers() if layer.piece == "blocks.1"}
    assert {Role.CROSS_ATTN_KV, Role.SELF_ATTN_QKV, Role.FFN_UP, Role.ATTENTION} <= roles
    assert all(not layer.reason for layer in compiled.tadp.layers() if layer.piece == "blocks.1")

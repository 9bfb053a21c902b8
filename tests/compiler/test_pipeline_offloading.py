"""Pipelines that offload: compiled transformers under diffusers' own calls."""

import pytest
import torch
from diffusers import WanPipeline

import tadp
from tests.pipelines import tiny_clip, tiny_pipeline

pytestmark = pytest.mark.compiles

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def expected() -> torch.Tensor:
    return tiny_clip(_compiled(), "a red circle", guidance_scale=1.0)


def _compiled() -> WanPipeline:
    pipeline = tadp.compile(tiny_pipeline(), policy="static:8")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_group_offload_streams_the_transformer(expected: torch.Tensor) -> None:
    pipeline = _compiled()
    pipeline.enable_group_offload(CPU, CPU, offload_type="block_level", num_blocks_per_group=1)
    assert torch.equal(tiny_clip(pipeline, "a red circle", guidance_scale=1.0), expected)


def test_sequential_offload_streams_the_transformer(expected: torch.Tensor) -> None:
    pipeline = _compiled()
    excluded = ["text_encoder", "vae"]  # which accelerate 1.15 cannot offload here, compiled or not
    pipeline._exclude_from_cpu_offload = excluded
    pipeline.enable_sequential_cpu_offload(device="cpu")
    assert pipeline._exclude_from_cpu_offload == excluded
    assert torch.equal(tiny_clip(pipeline, "a red circle", guidance_scale=1.0), expected)


def test_model_offload_moves_the_transformer(expected: torch.Tensor) -> None:
    pipeline = _compiled()
    pipeline.enable_model_cpu_offload(device="cpu")
    assert torch.equal(tiny_clip(pipeline, "a red circle", guidance_scale=1.0), expected)

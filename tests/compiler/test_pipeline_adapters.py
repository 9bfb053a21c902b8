"""LoRA files as people share them, in compiled pipelines of one transformer and of two."""

import pytest
import torch
from diffusers import WanPipeline

import tadp
from tadp.demo.architecture import make_transformer
from tests.models import relative_error
from tests.pipelines import tiny_clip, tiny_pipeline

pytest.importorskip("peft")

pytestmark = pytest.mark.compiles

PROMPT = "a red circle"
NAMES = {
    "self_attn.q": "attn1.to_q",
    "self_attn.k": "attn1.to_k",
    "self_attn.v": "attn1.to_v",
    "self_attn.o": "attn1.to_out.0",
    "cross_attn.q": "attn2.to_q",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
}
"""Wan's own names of layers, as lightx2v's and Lightning's files have them, and diffusers'."""


def _clip(pipeline: WanPipeline) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    return tiny_clip(pipeline, PROMPT, guidance_scale=1.0)


def _lightning(transformer: torch.nn.Module, seed: int, rank: int = 4) -> dict[str, torch.Tensor]:
    """A step-distillation LoRA under Wan's own names, with an alpha for each layer."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for block in range(len(transformer.blocks)):
        for own, name in NAMES.items():
            rows, columns = transformer.get_submodule(f"blocks.{block}.{name}").weight.shape
            path = f"diffusion_model.blocks.{block}.{own}"
            state[f"{path}.lora_down.weight"] = torch.randn(rank, columns, generator=generator) * 0.2
            state[f"{path}.lora_up.weight"] = torch.randn(rows, rank, generator=generator) * 0.2
            state[f"{path}.alpha"] = torch.tensor(float(rank))
    return state


def test_a_lightning_lora_is_loaded_weighed_fused_and_unloaded() -> None:
    plain, compiled = tiny_pipeline(), tadp.compile(tiny_pipeline(), policy="static:8")
    state = _lightning(plain.transformer, seed=0)
    without, base = _clip(compiled), _clip(plain)
    base_error = relative_error(without, base)
    for pipeline in (plain, compiled):
        pipeline.load_lora_weights(dict(state), adapter_name="fast")
    assert relative_error(_clip(plain), base) > 10 * base_error
    assert relative_error(_clip(compiled), _clip(plain)) < 1.5 * base_error
    for pipeline in (plain, compiled):
        pipeline.set_adapters(["fast"], [0.5])
        pipeline.fuse_lora()
    assert relative_error(_clip(compiled), _clip(plain)) < 1.5 * base_error
    compiled.unfuse_lora()
    compiled.unload_lora_weights()
    assert torch.equal(_clip(compiled), without)


def test_each_of_two_transformers_has_its_own_lora() -> None:
    def two() -> WanPipeline:
        torch.manual_seed(1)
        pipeline = WanPipeline(**tiny_pipeline().components | {"transformer_2": make_transformer().bfloat16().eval()})
        pipeline.register_to_config(boundary_ratio=0.8)
        return pipeline

    plain, compiled = two(), tadp.compile(two(), policy="static:8")
    base_error = relative_error(_clip(compiled), _clip(plain))
    high, low = (_lightning(plain.transformer, seed) for seed in (1, 2))
    for pipeline in (plain, compiled):
        pipeline.load_lora_weights(dict(high), adapter_name="high")
        pipeline.load_lora_weights(dict(low), adapter_name="low", load_into_transformer_2=True)
    assert compiled.transformer.peft_config.keys() == {"high"}
    assert compiled.transformer_2.peft_config.keys() == {"low"}
    assert relative_error(_clip(compiled), _clip(plain)) < 1.5 * base_error

"""Models for benchmarks: the embedded one, and two blocks of Wan2.1-1.3B's shape, each with inputs."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from diffusers import WanPipeline, WanTransformer3DModel
from torch.nn import functional

from tadp.demo import PIPELINE_DIR
from tadp.files.automatic import NAME
from tadp.files.calibration import load
from tadp.files.fingerprint import fingerprint
from tadp.planning.calibration import Calibration

GENERATION: dict[str, Any] = {
    "height": 64,
    "width": 64,
    "num_frames": 17,
    "num_inference_steps": 20,
    "guidance_scale": 4.0,
    "max_sequence_length": 64,
    "output_type": "np",
}
"""What the embedded pipeline is called with."""

WIDE_FRAME = (32, 32)
"""Height and width of a frame of the latent."""
WIDE_FRAME_TOKENS = 256
"""What patches of (1, 2, 2) make of it."""


def demo_transformer(dtype: torch.dtype = torch.bfloat16) -> WanTransformer3DModel:
    """The trained transformer of the embedded pipeline."""
    model = WanTransformer3DModel.from_pretrained(PIPELINE_DIR / "transformer", torch_dtype=dtype)
    return model.eval().requires_grad_(False)


def demo_pipeline(dtype: torch.dtype = torch.bfloat16) -> WanPipeline:
    """The whole embedded pipeline."""
    pipeline = WanPipeline.from_pretrained(PIPELINE_DIR, torch_dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def demo_calibration(model: torch.nn.Module) -> Calibration:
    """The calibration that the embedded pipeline ships, for its transformer in any floating type.

    It was measured in bfloat16. Benchmarks in float32 compare policies with each other, for which that is as good.
    """
    found = load(PIPELINE_DIR / f"{NAME}.json")
    return replace(found, key={**found.key, "models": {"transformer": fingerprint(model)}})


def demo_inputs(dtype: torch.dtype = torch.bfloat16, timestep: float = 900.0) -> dict[str, object]:
    """Arguments of one forward at 17 frames of 64x64: 1,280 video tokens, 64 text tokens."""
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(1, 8, 5, 16, 16, generator=generator).to(dtype),
        "timestep": torch.tensor([timestep]),
        "encoder_hidden_states": torch.randn(1, 64, 128, generator=generator).to(dtype),
        "return_dict": False,
    }


def demo_attention(
    every: int, steps: int = 4, prompt: str = "a red circle moves left and a small blue square orbits"
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Queries, keys and values of every so manyth attention product of the transformer in a generation in bfloat16."""
    caught: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    calls = 0
    plain: Callable[..., torch.Tensor] = functional.scaled_dot_product_attention
    pipeline = demo_pipeline()
    config = pipeline.transformer.config
    wanted = (config.num_attention_heads, config.attention_head_dim)

    def spy(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any) -> torch.Tensor:
        nonlocal calls
        if (query.shape[1], query.shape[3]) == wanted and options.get("attn_mask") is None:  # not of encoders
            calls += 1
            if calls % every == 0:
                caught.append((query.clone(), key.clone(), value.clone()))
        return plain(query, key, value, **options)

    with mock.patch.object(functional, "scaled_dot_product_attention", spy), torch.no_grad():
        options = {**GENERATION, "num_inference_steps": steps}
        pipeline(prompt=prompt, generator=torch.Generator().manual_seed(0), **options)
    return caught


def wide_transformer(dtype: torch.dtype = torch.bfloat16) -> WanTransformer3DModel:
    """Two blocks at the real width: 1,536 channels, 12 heads of 128, 8,960 in the feed-forward; random weights."""
    torch.manual_seed(0)
    model = WanTransformer3DModel(num_attention_heads=12, attention_head_dim=128, ffn_dim=8960, num_layers=2)
    return model.to(dtype).eval().requires_grad_(False)


def wide_inputs(tokens: int = 1280, dtype: torch.dtype = torch.bfloat16) -> dict[str, object]:
    """Arguments of one forward of it: video tokens, a multiple of 256, and 512 text tokens."""
    generator = torch.Generator().manual_seed(0)
    height, width = WIDE_FRAME
    frames = tokens // WIDE_FRAME_TOKENS
    return {
        "hidden_states": torch.randn(1, 16, frames, height, width, generator=generator).to(dtype),
        "timestep": torch.tensor([900.0]),
        "encoder_hidden_states": torch.randn(1, 512, 4096, generator=generator).to(dtype),
        "return_dict": False,
    }

"""Models for benchmarks: the embedded one, and two blocks of Wan2.1-1.3B's shape, each with inputs."""

import torch
from diffusers import WanPipeline, WanTransformer3DModel

from tadp.demo import PIPELINE_DIR

GENERATION = {
    "height": 64,
    "width": 64,
    "num_frames": 17,
    "num_inference_steps": 20,
    "guidance_scale": 4.0,
    "max_sequence_length": 64,
    "output_type": "np",
}
"""What the embedded pipeline is called with."""

WIDE_LATENT = (5, 32, 32)
"""Frames, height and width."""
WIDE_TOKENS = 5 * 16 * 16
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


def demo_inputs(dtype: torch.dtype = torch.bfloat16, timestep: float = 900.0) -> dict[str, object]:
    """Arguments of one forward at 17 frames of 64x64: 1,280 video tokens, 64 text tokens."""
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(1, 8, 5, 16, 16, generator=generator).to(dtype),
        "timestep": torch.tensor([timestep]),
        "encoder_hidden_states": torch.randn(1, 64, 128, generator=generator).to(dtype),
        "return_dict": False,
    }


def wide_transformer() -> WanTransformer3DModel:
    """Two blocks at the real width: 1,536 channels, 12 heads, 8,960 in the feed-forward; random weights."""
    torch.manual_seed(0)
    model = WanTransformer3DModel(num_attention_heads=12, attention_head_dim=128, ffn_dim=8960, num_layers=2)
    return model.bfloat16().eval().requires_grad_(False)


def wide_inputs() -> dict[str, object]:
    """Arguments of one forward of it: 1,280 video tokens, 512 text tokens."""
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(1, 16, *WIDE_LATENT, generator=generator).bfloat16(),
        "timestep": torch.tensor([900.0]),
        "encoder_hidden_states": torch.randn(1, 512, 4096, generator=generator).bfloat16(),
        "return_dict": False,
    }

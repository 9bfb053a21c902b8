"""A whole pipeline, untrained and tiny, that tests compile and call."""

import torch
from diffusers import WanPipeline

from tadp.demo.architecture import (
    make_autoencoder,
    make_scheduler,
    make_text_encoder,
    make_tokenizer,
    make_transformer,
)

CALL = {
    "height": 32,
    "width": 32,
    "num_frames": 5,
    "num_inference_steps": 4,
    "max_sequence_length": 32,
    "output_type": "pt",
}


def tiny_pipeline() -> WanPipeline:
    """The embedded pipeline, untrained."""
    torch.manual_seed(0)
    return WanPipeline(
        tokenizer=make_tokenizer(),
        text_encoder=make_text_encoder().bfloat16(),
        vae=make_autoencoder().bfloat16(),
        transformer=make_transformer().bfloat16().eval(),
        scheduler=make_scheduler(),
    )


def tiny_clip(pipeline: WanPipeline, prompt: str | list[str], **options: object) -> torch.Tensor:
    """Frames of a short clip from a fixed noise."""
    generator = torch.Generator().manual_seed(3)
    return pipeline(prompt, generator=generator, **{**CALL, **options}).frames

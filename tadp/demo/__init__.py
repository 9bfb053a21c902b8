"""The embedded model: a small trained Wan pipeline, the scenes it was trained on, and its training script."""

from pathlib import Path

PIPELINE_DIR = Path(__file__).parent / "pipeline"
"""The trained pipeline in diffusers format; `diffusers.WanPipeline.from_pretrained` loads it without tadp."""

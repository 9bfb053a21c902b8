"""The embedded model: a small trained Wan pipeline, the scenes it was trained on, and its training script."""

from pathlib import Path

from tadp.complexity.score import DEFAULT_RANGES, FeatureRange, FeatureRanges

PIPELINE_DIR = Path(__file__).parent / "pipeline"
"""The trained pipeline in diffusers format; `diffusers.WanPipeline.from_pretrained` loads it without tadp."""

FEW_STEP_DIR = Path(__file__).parent / "few-steps"
"""What a second model, distilled to four steps, has of its own; `tadp.demo.few_steps.load_few_steps` loads it."""

CALIBRATION_PROMPTS = Path(__file__).parent / "calibration_prompts.txt"
"""Captions of one to five objects, of scenes that the model was not trained on."""

FEATURE_RANGES: FeatureRanges = {
    **DEFAULT_RANGES,
    "entropy": FeatureRange(0.715, 0.733, weight=-0.5),
    "kurtosis": FeatureRange(4.31, 4.55, weight=0.0),
    "relative_change": FeatureRange(0.487, 0.510, weight=0.0),
}
"""Where this model's signals lie: 5th and 95th percentile over 25 captions of one to five objects.

Entropy falls with the number of objects (correlation -0.75). Kurtosis rises with it less clearly (0.56) and relative
change hardly does (0.13): they weigh nothing. How well any of them predicts the error of quantization was not
measured.
"""

"""What does reuse save, and what does it cost, beside fewer steps, on content from simple to complex?"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import WanPipeline
from torch._dynamo.utils import counters

import tadp
from bench.models.model import GENERATION, demo_pipeline
from bench.record import parser, record
from tadp.demo.scenes import sample_scene
from tadp.precision import L0, Recipe
from tadp.quality.fidelity import psnr
from tadp.runtime.compiled import latest_records

POLICIES = (
    "static:8",
    "static:8+attention",
    "static:8+reuse:0.0075",
    "staged:16+reuse:0,0.8:16+reuse:inf",
    "staged:16+reuse:0,0.8:16+reuse:inf+extrapolation:linear",
    "staged:16+reuse:0,0.8:16+reuse:inf+extrapolation:constant",
    "complexity",
    "complexity:reuse=0",
    "complexity:reuse=0.01",
    "complexity:guidance=0.01",
    "complexity:guidance=0.02",
)
FEWER_STEPS = (16, 14)
"""The rival that every sampler offers; at 16 bits."""


@dataclass(frozen=True)
class _Clip:
    """A clip, seconds of its forwards, the share of blocks that ran, and bytes of residuals at most."""

    frames: torch.Tensor
    seconds: float
    run: float
    kept: int


def main() -> None:
    """Clips of one to five objects against static:16 from the same noise; zero recompilations are checked."""
    options = parser(__doc__)
    options.add_argument("--clips", type=int, default=10)
    options.add_argument("--dtype", choices=("bfloat16", "float32"), default="float32")
    options.add_argument("--policies", nargs="+", default=list(POLICIES))
    chosen = options.parse_args()
    pipeline: WanPipeline = tadp.compile(
        demo_pipeline(getattr(torch, chosen.dtype)), policy="static:16", calibration=None
    )
    prompts = [sample_scene(6 * 10**9 + index, 1 + index % 5).caption for index in range(chosen.clips)]
    for policy in ("static:16", *chosen.policies):
        _generate(pipeline, prompts[0], 0, policy, num_inference_steps=4)  # compiles
    graphs = counters["stats"]["unique_graphs"]
    clips: dict[str, list[_Clip]] = {}
    for seed, prompt in enumerate(prompts):  # all policies in turn
        for policy in ("static:16", *chosen.policies):
            clips.setdefault(policy, []).append(_generate(pipeline, prompt, seed, policy))
        for steps in FEWER_STEPS:
            name = f"static:16, {steps} steps"
            clips.setdefault(name, []).append(_generate(pipeline, prompt, seed, "static:16", num_inference_steps=steps))
    recompilations = counters["stats"]["unique_graphs"] - graphs
    references = clips.pop("static:16")
    rows = [_row(name, found, references, chosen.clips) for name, found in clips.items()]
    record("reuse", rows, chosen.json, clips=chosen.clips, dtype=chosen.dtype, recompilations=recompilations)


def _generate(pipeline: WanPipeline, prompt: str, seed: int, policy: str, **others: object) -> _Clip:
    if str(pipeline.tadp.policy) != policy:
        pipeline.tadp.use(policy)
    started = time.perf_counter()
    output = pipeline(prompt, generator=torch.Generator().manual_seed(seed), **{**GENERATION, **others})
    records = latest_records(pipeline.tadp)
    reused = [sum(recipe == Recipe(L0) for _, recipe in record.plan) / len(record.plan) for record in records]
    seconds = time.perf_counter() - started
    return _Clip(torch.from_numpy(output.frames[0]), seconds, 1 - statistics.fmean(reused), pipeline.tadp.kept_bytes)


def _row(name: str, clips: Sequence[_Clip], references: Sequence[_Clip], count: int) -> dict[str, object]:
    found = [psnr(clip.frames, reference.frames) for clip, reference in zip(clips, references, strict=True)]
    by_objects = {
        f"PSNR, {number} object{'s' if number > 1 else ''}": statistics.fmean(found[number - 1 :: 5])
        for number in (1, 3, 5)
        if number <= count
    }
    ratios = [clip.seconds / reference.seconds for clip, reference in zip(clips, references, strict=True)]
    return {
        "policy": name,
        "PSNR, dB (mean)": statistics.fmean(found),
        "lowest": min(found),
        **by_objects,
        "share of blocks run": statistics.fmean(clip.run for clip in clips),
        "x static:16": statistics.median(ratios),
        "kept, MB": max(clip.kept for clip in clips) / 1e6,
    }


if __name__ == "__main__":
    main()

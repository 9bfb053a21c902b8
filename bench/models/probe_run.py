"""The steps of a probe, and no others, of a generation of the embedded pipeline; part of several benchmarks."""

from typing import Any

import torch
from diffusers import WanPipeline

from bench.models.model import GENERATION
from tadp.policy.complexity import PROBE_STEPS
from tadp.runtime.signals import Signals


def run_probe(pipeline: WanPipeline, caption: str, seed: int, **options: object) -> None:
    """Generate until the probe is over; steps are those of a whole generation, only the rest of it is left out."""
    pipeline(
        caption,
        generator=torch.Generator().manual_seed(seed),
        callback_on_step_end=_stop_after_probe,
        **GENERATION | {"output_type": "latent"} | options,
    )


def signals_of_probe(pipeline: WanPipeline, caption: str, seed: int, **options: object) -> list[Signals]:
    """What the policy of a compiled pipeline measures in the steps of a probe, forward by forward."""
    before = pipeline.tadp.clock.generation
    run_probe(pipeline, caption, seed, **options)
    records = [record for record in pipeline.tadp.history if record.generation > before]
    return [record.signals for record in records if record.signals is not None]


def _stop_after_probe(pipeline: Any, step: int, timestep: object, tensors: dict[str, object]) -> dict[str, object]:
    pipeline._interrupt = step + 1 >= PROBE_STEPS
    return tensors

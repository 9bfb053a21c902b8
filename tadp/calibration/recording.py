"""Forwards of a model as they occur in generations: their inputs, to be run again at other precisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tadp.runtime.clock import Clock


@dataclass(frozen=True)
class Step:
    """One step of a generation.

    Attributes:
        noise: its timestep as a share of the first step's.
        inputs: keyword arguments of the model by guidance branch, "cond" first.
    """

    noise: float
    inputs: Mapping[str, Mapping[str, Any]]


def record(pipeline: Any, model: torch.nn.Module, prompt: str, seed: int, arguments: Mapping[str, Any]) -> list[Step]:
    """Generate, and note what the model was called with in each step.

    Args:
        pipeline: a diffusers pipeline.
        model: its transformer, which is to be called with keyword arguments, as diffusers' pipelines do.
        prompt: of the generation.
        seed: likewise.
        arguments: of the pipeline's call, but for prompt and generator.

    Raises:
        ValueError: if the model was not called, or without a timestep.
    """
    clock, calls = Clock(), []

    def note(_: torch.nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        if positional or not isinstance(named.get("timestep"), torch.Tensor):
            raise ValueError("calibration needs a model that is called with keyword arguments, `timestep` among them")
        timestep = float(named["timestep"].max())
        kept = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in named.items()}
        calls.append((clock.tick(timestep), timestep, kept))

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        generator = torch.Generator().manual_seed(seed)
        pipeline(prompt, generator=generator, **{**arguments, "output_type": "latent"})
    finally:
        hook.remove()
    if not calls:
        raise ValueError(f"{type(model).__name__} was not called by {type(pipeline).__name__}")
    first = max(timestep for _, timestep, _ in calls)
    steps: dict[int, Step] = {}
    for tick, timestep, inputs in calls:
        known = steps.get(tick.step)
        branches = {} if known is None else dict(known.inputs)
        steps[tick.step] = Step(timestep / first, {**branches, tick.branch: inputs})
    return list(steps.values())


def stages_of(noises: Sequence[float], probe_steps: int, count: int) -> tuple[float, ...]:
    """Bounds that part a generation into the probe and `count` stages of about as many steps each.

    Args:
        noises: of all steps, falling.
        probe_steps: that make up stage 0.
        count: of further stages; fewer where there are fewer steps.

    Returns:
        Noise levels between the last step of one stage and the first of the next.
    """
    rest = len(noises) - probe_steps
    if rest < 1:
        raise ValueError(f"a generation of {len(noises)} steps leaves none after a probe of {probe_steps}")
    count = min(count, rest)
    starts = [probe_steps + round(index * rest / count) for index in range(count)]
    return tuple((noises[start - 1] + noises[start]) / 2 for start in starts)


def stage_of(noise: float, stages: Sequence[float]) -> int:
    """The stage that a noise level lies in."""
    return sum(noise < bound for bound in stages)

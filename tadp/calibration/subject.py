"""What is calibrated: a compiled pipeline with steps of its generations, and what was seen before it was compiled."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from tadp.calibration.channel_widths import channel_widths
from tadp.calibration.channels import channel_peaks
from tadp.calibration.clips import REFERENCE
from tadp.calibration.gradient import Estimate, estimate
from tadp.calibration.recording import Step, record, stage_of, stages_of
from tadp.calibration.rotation import roles_that_gain, rotation_gains
from tadp.files.fingerprint import calibration_key, fingerprint
from tadp.policy import Policy
from tadp.policy.complexity import PROBE_STEPS
from tadp.precision import MIXED_AVERAGES, Role
from tadp.runtime.compiled import Compiled

STAGES = 4  # after the probe


@dataclass(frozen=True)
class Subject:
    """What is calibrated.

    Attributes:
        pipeline: compiled.
        model: its transformer, compiled.
        key: of the calibration.
        arguments: of the pipeline's call, but for prompt and generator.
        recorded: steps of generations at 16 bits.
        stages: noise levels that part them.
        counts: of steps in each stage.
        estimates: squared relative errors by layer and width, from gradients.
        channel_widths: of output channels at mixed levels, by layer: ``(len(MIXED_AVERAGES), rows)`` uint8.
        peaks: of the input channels of every layer, by stage.
        rotated: roles that gain by rotations, as the model is compiled.
        seed: of the first prompt; the next ones follow.
    """

    pipeline: Compiled
    model: Compiled
    key: Mapping[str, object]
    arguments: Mapping[str, Any]
    recorded: tuple[Step, ...]
    stages: tuple[float, ...]
    counts: tuple[int, ...]
    estimates: Mapping[str, Mapping[int, Estimate]]
    channel_widths: Mapping[str, torch.Tensor]
    peaks: Mapping[str, torch.Tensor]
    rotated: tuple[Role, ...]
    seed: int

    @property
    def guidance_scale(self) -> float:
        return float(self.arguments.get("guidance_scale", 1.0))


def prepare(
    pipeline: Any,
    prompts: Sequence[str],
    arguments: Mapping[str, Any],
    layers: Mapping[str, torch.nn.Linear],
    roles: Mapping[str, Role],
    compile_pipeline: Callable[[Any, Policy, tuple[Role, ...]], Any],
    *,
    component: str = "transformer",
    recorded: int = 2,
    seed: int = 0,
) -> Subject:
    """Record generations, estimate sensitivities from gradients, and compile.

    Args:
        pipeline: not compiled yet.
        prompts: of which the first are recorded.
        arguments: of the pipeline's call, but for prompt and generator.
        layers: linear layers of the blocks, by path.
        roles: of the layers.
        compile_pipeline: `tadp.compile` at a policy, with rotations in some roles.
        component: the transformer's name in the pipeline.
        recorded: how many prompts are recorded.
        seed: of the first prompt.
    """
    model = getattr(pipeline, component)
    key = calibration_key({component: fingerprint(model)}, arguments)
    trails = [
        record(pipeline, model, prompt, seed + index, arguments)
        for index, prompt in enumerate(tqdm(prompts[:recorded], desc="recording steps", unit="clip"))
    ]
    noises = [step.noise for step in trails[0]]
    stages = stages_of(noises, PROBE_STEPS, STAGES)
    in_stage = [stage_of(noise, stages) for noise in noises]
    counts = tuple(in_stage.count(stage) for stage in range(len(stages) + 1))
    middle = [_middle(in_stage, stage) for stage in range(len(counts))]
    chosen = tuple(trail[index] for trail in trails for index in middle)
    estimates = _estimates(model, layers, chosen[: len(counts)])
    peaks = channel_peaks(model, layers, chosen, stages)
    rotated = roles_that_gain(rotation_gains(model, layers, chosen), roles)
    compiled = compile_pipeline(pipeline, REFERENCE, rotated)
    return Subject(
        pipeline=compiled,
        model=getattr(compiled, component),
        key=key,
        arguments=arguments,
        recorded=chosen,
        stages=stages,
        counts=counts,
        estimates=estimates,
        channel_widths=_channel_widths(estimates, layers),
        peaks=peaks,
        rotated=rotated,
        seed=seed,
    )


def _estimates(
    model: torch.nn.Module, layers: Mapping[str, torch.nn.Linear], steps: Sequence[Step]
) -> dict[str, dict[int, Estimate]]:
    """Gradient estimates by layer and width, the mean over steps, of their first branch."""
    found: dict[str, dict[int, list[Estimate]]] = {}
    for step in steps:
        for layer, by_width in estimate(model, layers, next(iter(step.inputs.values()))).items():
            for width, error in by_width.items():
                found.setdefault(layer, {}).setdefault(width, []).append(error)
    return {
        layer: {width: _mean(estimates) for width, estimates in by_width.items()} for layer, by_width in found.items()
    }


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    channels = torch.stack([error.channels for error in estimates]).mean(0)
    return Estimate(statistics.fmean(error.whole for error in estimates), channels)


def _channel_widths(
    estimates: Mapping[str, Mapping[int, Estimate]], layers: Mapping[str, torch.nn.Linear]
) -> dict[str, torch.Tensor]:
    """By layer, ``(len(MIXED_AVERAGES), rows)``."""
    errors = {
        layer: {width: error.channels for width, error in by_width.items()} for layer, by_width in estimates.items()
    }
    columns = {layer: layers[layer].in_features for layer in errors}
    by_average = [channel_widths(errors, columns, average) for average in MIXED_AVERAGES]
    return {layer: torch.stack([widths[layer] for widths in by_average]) for layer in errors}


def _middle(in_stage: Sequence[int], stage: int) -> int:
    """Index of the middle one of a stage's steps."""
    own = [index for index, found in enumerate(in_stage) if found == stage]
    return own[len(own) // 2]

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tadp.calibration.recording import record, stage_of, stages_of


class Model(torch.nn.Module):
    def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        return hidden_states * timestep


class Pipeline:
    def __init__(self, named: bool = True, branches: int = 2) -> None:
        self.model, self.named, self.branches = Model(), named, branches
        self.seen: dict[str, Any] = {}

    def __call__(self, prompt: str, **arguments: Any) -> object:
        self.seen = {"prompt": prompt, **arguments}
        for timestep in (1000.0, 600.0, 200.0):
            for branch in range(self.branches):
                inputs = {"hidden_states": torch.full((1, 2), float(branch)), "timestep": torch.tensor([timestep])}
                self.model(**inputs) if self.named else self.model(*inputs.values())
        return SimpleNamespace(frames=None)


def test_steps_are_recorded_with_their_noise_and_branches() -> None:
    pipeline = Pipeline()
    steps = record(pipeline, pipeline.model, "a cat", 7, {"num_inference_steps": 3})
    assert [step.noise for step in steps] == [1.0, 0.6, 0.2]
    assert [list(step.inputs) for step in steps] == [["cond", "uncond"]] * 3
    assert steps[1].inputs["uncond"]["hidden_states"].tolist() == [[1.0, 1.0]]
    assert pipeline.seen["output_type"] == "latent"
    assert pipeline.seen["generator"].initial_seed() == 7
    assert not pipeline.model._forward_pre_hooks


def test_a_model_without_guidance_has_one_branch() -> None:
    pipeline = Pipeline(branches=1)
    assert [list(step.inputs) for step in record(pipeline, pipeline.model, "a cat", 0, {})] == [["cond"]] * 3


def test_models_called_by_position_are_refused() -> None:
    pipeline = Pipeline(named=False)
    with pytest.raises(ValueError, match="keyword arguments"):
        record(pipeline, pipeline.model, "a cat", 0, {})
    assert not pipeline.model._forward_pre_hooks


def test_models_that_are_not_called_are_refused() -> None:
    with pytest.raises(ValueError, match="was not called"):
        record(Pipeline(), Model(), "a cat", 0, {})


def test_stages_have_about_as_many_steps_each() -> None:
    noises = [1.0 - step / 20 for step in range(20)]
    stages = stages_of(noises, probe_steps=2, count=3)
    found = [stage_of(noise, stages) for noise in noises]
    assert found == sorted(found)
    assert [found.count(stage) for stage in range(4)] == [2, 6, 6, 6]


def test_few_steps_have_fewer_stages() -> None:
    assert [stage_of(noise, stages_of([1.0, 0.5, 0.2, 0.1], 2, 3)) for noise in (1.0, 0.5, 0.2, 0.1)] == [0, 0, 1, 2]


def test_a_generation_has_to_outlast_its_probe() -> None:
    with pytest.raises(ValueError, match="leaves none"):
        stages_of([1.0, 0.5], 2, 3)

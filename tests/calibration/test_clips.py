from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tadp.calibration.clips import ClipMeasurer
from tadp.calibration.samples import SampleFile
from tadp.policy import Policy, Seen, Static, parse
from tadp.precision import L0, L8, L16, Plan, Recipe
from tadp.runtime.signals import BlockSignals, Signals
from tests.fakes import step_record


class Pipeline:
    """Clips of noise from the seed, plus an error that the policy tells."""

    def __init__(self, frames: int = 3, side: int = 16) -> None:
        self.calls: list[str] = []
        self.plans: list[Plan] = []  # what the steps ran at, where that is not what they were asked to
        self.shape = (1, frames, side, side, 3)
        self.tadp: Any = SimpleNamespace(
            use=self._use, history=[], clock=SimpleNamespace(generation=0), weight_bytes=lambda: 1000, kept_bytes=70
        )

    def _use(self, policy: Policy) -> None:
        self.policy = policy

    def __call__(
        self,
        prompt: str,
        generator: torch.Generator,
        output_type: str,
        num_inference_steps: int,
        callback_on_step_end: Callable[..., object],
    ) -> object:
        self.calls.append(f"{prompt} {generator.initial_seed()} {self.policy}")
        self.tadp.clock.generation += 1
        plan = self.policy.plan(Seen(("blocks.0", "blocks.1", "blocks.2")))
        for step in range(num_inference_steps):
            probing = step < self.policy.probe_steps
            signals = Signals((BlockSignals("blocks.1", {("entropy", ""): (0.5,)}),)) if probing else None
            ran = self.plans[step] if self.plans else plan
            self.tadp.history.append(step_record(self.tadp.clock.generation, step + 1, signals, ran))
            callback_on_step_end(self, step, 0, {})
        clip = np.random.default_rng(generator.initial_seed()).random(self.shape, dtype=np.float32) * 0.5
        clip += (16 - plan["blocks.1"].default.weight) / 100
        return SimpleNamespace(frames=clip)


def _measurer(pipeline: Any, directory: Path, **options: Any) -> ClipMeasurer:
    file = SampleFile(directory / "samples.jsonl", {})
    return ClipMeasurer(pipeline, {"num_inference_steps": 3}, file, directory / "references", **options)


def test_errors_are_those_against_16_bits_of_the_same_noise(tmp_path: Path) -> None:
    pipeline = Pipeline()
    measurer = _measurer(pipeline, tmp_path, align=lambda clip, prompt: float(len(prompt)))
    outcome = measurer.measure("a cat", 3, parse("static:4"))
    assert outcome.mse == pytest.approx(0.12**2, rel=1e-3)
    assert outcome.temporal_error == pytest.approx(0.0, abs=1e-6)
    assert outcome.alignment == 5.0
    assert outcome.recipes == {"4": 9}
    assert outcome.weight_bytes == 1000
    assert outcome.reused == (0.0, 0.0, 0.0)
    assert outcome.kept_bytes == 70
    assert measurer.file.sample("a cat", 3).outcomes["static:16"].mse == 0.0
    assert pipeline.calls == ["a cat 3 static:16", "a cat 3 static:4"]


def test_what_is_left_out_is_noted_step_by_step(tmp_path: Path) -> None:
    pipeline = Pipeline()
    levels = ({"blocks.0": L8, "blocks.1": L8}, {"blocks.0": L0, "blocks.1": L8}, {"blocks.0": L0, "blocks.1": L0})
    pipeline.plans = [Plan.of((block, Recipe(level)) for block, level in own.items()) for own in levels]
    measurer = _measurer(pipeline, tmp_path)
    assert measurer.measure("a cat", 0, parse("static:8")).reused == (0.0, 0.5, 1.0)
    again = SampleFile(tmp_path / "samples.jsonl", {}).sample("a cat", 0).outcomes["static:8"]
    assert again.reused == (0.0, 0.5, 1.0)


def test_clips_at_16_bits_that_are_probed_can_be_the_reference(tmp_path: Path) -> None:
    pipeline = Pipeline()
    measurer = _measurer(pipeline, tmp_path, reference=Static(L16, probe_steps=1))
    measurer.measure("a cat", 0, parse("static:8"))
    assert pipeline.calls == ["a cat 0 static:16,probe=1", "a cat 0 static:8"]
    assert measurer.file.sample("a cat", 0).features == {"entropy": 0.5}


def test_references_are_generated_once(tmp_path: Path) -> None:
    pipeline = Pipeline()
    _measurer(pipeline, tmp_path).measure("a cat", 0, parse("static:8"))
    resumed = _measurer(pipeline, tmp_path)
    resumed.measure("a cat", 0, parse("static:4"))
    assert [call for call in pipeline.calls if call.endswith("static:16")] == ["a cat 0 static:16"]


def test_what_is_known_is_not_measured_again(tmp_path: Path) -> None:
    policies = [parse(name) for name in ("static:16", "static:8", "static:4")]
    pairs = [("a cat", 0), ("a dog", 1)]
    first = _measurer(Pipeline(), tmp_path)
    missing = first.missing(pairs, policies)
    assert [(prompt, str(policy)) for prompt, _, policy in missing][:3] == [
        ("a cat", "static:16"),
        ("a cat", "static:8"),
        ("a cat", "static:4"),
    ]
    for prompt, seed, policy in missing[:4]:
        first.measure(prompt, seed, policy)
    resumed = _measurer(Pipeline(), tmp_path)
    assert resumed.missing(pairs, policies) == missing[4:]


def test_a_killed_run_gives_the_same_result_as_a_whole_one(tmp_path: Path) -> None:
    policies = [parse(name) for name in ("static:16", "static:8", "static:4")]
    whole, killed = (_measurer(Pipeline(), tmp_path / name) for name in ("whole", "killed"))
    for item in whole.missing([("a cat", 0)], policies):
        whole.measure(*item)
    killed.measure(*killed.missing([("a cat", 0)], policies)[0])
    path = killed.file.path
    path.write_text(path.read_text() + '{"prompt": "a c')
    resumed = _measurer(Pipeline(), tmp_path / "killed")
    for item in resumed.missing([("a cat", 0)], policies):
        resumed.measure(*item)
    found, expected = (m.file.sample("a cat", 0).outcomes for m in (resumed, whole))
    assert {name: o.mse for name, o in found.items()} == {name: o.mse for name, o in expected.items()}


def test_what_a_probe_measures_is_kept_once(tmp_path: Path) -> None:
    measurer = _measurer(Pipeline(), tmp_path)
    measurer.measure("a cat", 0, Static(L8, keep_ends=True, probe_steps=2))
    assert measurer.file.sample("a cat", 0).features == {"entropy": 0.5}
    assert measurer.file.sample("a cat", 0).outcomes["static:8,ends=16,probe=2"].recipes == {"16": 6, "8": 3}


def test_single_small_images_have_neither_motion_nor_structure(tmp_path: Path) -> None:
    class Images(Pipeline):
        def __call__(self, prompt: str, generator: torch.Generator, **arguments: Any) -> object:  # type: ignore[override]
            self.tadp.clock.generation += 1
            return SimpleNamespace(images=np.full((1, 8, 8, 3), 0.5, dtype=np.float32))

    outcome = _measurer(Images(), tmp_path).measure("a cat", 0, parse("static:8"))
    assert outcome.ssim is None
    assert outcome.temporal_error is None
    assert outcome.weight_bytes is None
    assert outcome.mse == 0.0

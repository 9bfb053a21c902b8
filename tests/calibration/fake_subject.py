"""A model and a pipeline that cost no time: errors follow from what blocks run at, and from the prompt."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import torch

from tadp.calibration.gradient import Estimate
from tadp.calibration.recording import Step
from tadp.calibration.subject import Subject
from tadp.files.fingerprint import calibration_key
from tadp.planning.reuse_costs import bound_of
from tadp.precision import L0, L16, Plan, Recipe, Role
from tadp.runtime.signals import BlockSignals, Signals
from tests.fakes import FakeController, step_record

BLOCKS = tuple(f"blocks.{index}" for index in range(4))
STAGES = (0.95, 0.8, 0.5)
NOISES = (1.0, 0.97, 0.9, 0.7, 0.3)
PROMPTS = tuple(f"{', '.join(['a red circle bounces'] * (1 + index % 5))} and {index} stars" for index in range(10))


def error_of(recipe: Recipe) -> float:
    """Relative error of a block at a recipe."""
    lowered = sum(1e-4 * 4 ** (8 - level.weight) for _, level in recipe.overrides if level != L16)
    return lowered + (0.0 if recipe.default == L16 else 1e-3 * 2 ** (8 - recipe.default.weight))


ROLES = (Role.FFN_UP, Role.SELF_ATTN_QKV, Role.ATTENTION)


class _Model:
    """Predicts its input, with the errors of all blocks; the last one is the most sensitive."""

    def __init__(self) -> None:
        self.tadp = FakeController(BLOCKS, roles=ROLES, kept_bytes=500)

    def __call__(self, hidden_states: torch.Tensor, timestep: torch.Tensor) -> tuple[torch.Tensor]:
        self.tadp.noise = float(timestep) / 1000
        error = sum((1 + index) * error_of(self.tadp.plan[block]) for index, block in enumerate(BLOCKS))
        pattern = torch.randn(hidden_states.shape, generator=torch.Generator().manual_seed(0))
        return (hidden_states + error * pattern,)


class _Pipeline:
    """Clips whose error grows with the commas of the prompt; `interrupt` after so many clips."""

    def __init__(self, model: _Model, interrupt: int | None = None) -> None:
        self.tadp, self.interrupt, self.clips = model.tadp, interrupt, 0

    def __call__(
        self,
        prompt: str,
        generator: torch.Generator,
        output_type: str,
        num_inference_steps: int,
        callback_on_step_end: Callable[..., object] = lambda *_: {},
    ) -> object:
        if self.interrupt is not None and self.clips >= self.interrupt:
            raise KeyboardInterrupt
        self.clips += 1
        self.tadp.clock.generation += 1
        seed, error = generator.initial_seed(), 0.0
        content = 1 + prompt.count(",") + 0.01 * seed
        for step, noise in enumerate(NOISES):
            self.tadp.noise = noise
            plan = self.tadp.plan
            bound = bound_of(plan)
            reused = bound > 0 and step % 2 == 1
            error += bound * noise if reused else sum(error_of(recipe) for _, recipe in plan) * noise * content / 10
            ran = Plan.of((block, Recipe(L0)) for block, _ in plan) if reused else plan
            probing = step < self.tadp.policy.probe_steps
            signals = Signals((BlockSignals("blocks.1", {("entropy", ""): (1 / content,)}),)) if probing else None
            self.tadp.history.append(step_record(self.tadp.clock.generation, step + 1, signals, ran))
            callback_on_step_end(self, step, 0, {})
        clip = np.random.default_rng(seed).random((1, 3, 16, 16, 3), dtype=np.float32) * 0.5
        return SimpleNamespace(frames=clip + np.float32(min(error, 0.4)))


def fake_subject(interrupt: int | None = None) -> Subject:
    """What `prepare` would give."""
    model = _Model()
    x = torch.randn(1, 2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    steps = tuple(
        Step(noise, {b: {"hidden_states": x * f, "timestep": torch.tensor(1000 * noise)} for b, f in BRANCHES.items()})
        for noise in (1.0, 0.9, 0.7, 0.3)
    )
    return Subject(
        pipeline=_Pipeline(model, interrupt),
        model=model,
        key=calibration_key({"transformer": "fake"}, {"num_inference_steps": 5}),
        arguments={"num_inference_steps": 5},
        recorded=steps,
        stages=STAGES,
        counts=(2, 1, 1, 1),
        estimates={
            f"{block}.{Role.FFN_UP}": {
                width: Estimate(whole, torch.zeros(2)) for width, whole in ((8, 0.1 * i), (6, 0.2), (4, 0.3 * i))
            }
            for i, block in enumerate(BLOCKS)
        },
        channel_widths={f"{block}.{Role.FFN_UP}": torch.full((3, 2), 8, dtype=torch.uint8) for block in BLOCKS},
        peaks={f"{block}.{Role.FFN_UP}": torch.full((4, 3), 1.0 + i) for i, block in enumerate(BLOCKS)},
        rotated=(Role.FFN_DOWN,),
        seed=0,
    )


BRANCHES = {"cond": 1.0, "uncond": 0.9}

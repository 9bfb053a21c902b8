from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tadp.calibration.prediction_error import (
    QUALITY_OF_ROLE,
    PredictionError,
    alone,
    predict,
    prediction_error,
    prediction_errors,
    role_alone,
)
from tadp.calibration.recording import Step
from tadp.policy import Policy, Seen
from tadp.precision import L4, L8, L16, Recipe, Role

SHAPE = (1, 2, 3, 4, 4)


def _predictions(**branches: float) -> dict[str, torch.Tensor]:
    base = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    return {branch: base + value for branch, value in branches.items()}


def test_equal_predictions_have_no_error() -> None:
    both = _predictions(cond=1.0, uncond=0.0)
    assert prediction_error(both, both, 4.0) == PredictionError(0.0, 0.0, 0.0)


def test_guidance_magnifies_what_only_one_branch_gets_wrong() -> None:
    reference = _predictions(cond=1.0, uncond=0.0)
    one, both = _predictions(cond=1.1, uncond=0.0), _predictions(cond=1.1, uncond=0.1)
    assert prediction_error(one, reference, 4.0).visual == pytest.approx(
        16 * prediction_error(both, reference, 4.0).visual, rel=1e-4
    )
    assert prediction_error(one, reference, 4.0).text == pytest.approx(0.01, rel=1e-4)
    assert prediction_error(both, reference, 4.0).text == pytest.approx(0.0, abs=1e-10)


def test_errors_that_stand_still_are_not_temporal() -> None:
    reference = _predictions(cond=0.0, uncond=0.0)
    still = {branch: values + 0.1 for branch, values in reference.items()}
    assert prediction_error(still, reference, 4.0).temporal == pytest.approx(0.0, abs=1e-10)
    flicker = {branch: values + torch.tensor([0.1, -0.1, 0.1]).view(1, 1, 3, 1, 1) for branch, values in still.items()}
    assert prediction_error(flicker, reference, 4.0).temporal > 1e-4  # type: ignore[operator]


def test_images_without_guidance_have_the_visual_error_only() -> None:
    reference = {"cond": torch.ones(1, 2, 4, 4)}
    assert prediction_error({"cond": torch.full((1, 2, 4, 4), 1.1)}, reference, 1.0) == PredictionError(
        pytest.approx(0.01, rel=1e-4)
    )


def test_roles_are_judged_by_what_they_influence() -> None:
    found = PredictionError(1.0, 2.0, 3.0)
    assert found.of(Role.FFN_UP) == 1.0
    assert found.of(Role.CROSS_ATTN_KV) == 2.0
    assert found.of(Role.SELF_ATTN_QKV) == 3.0
    assert PredictionError(1.0).of(Role.CROSS_ATTN_Q) == 1.0
    assert set(QUALITY_OF_ROLE) == set(Role) - {Role.EMBED, Role.HEAD}


class Model:
    """Predicts by what its one block runs at."""

    def __init__(self) -> None:
        self.policy: Policy | None = None
        self.tadp = SimpleNamespace(use=self._use)

    def _use(self, policy: Policy) -> None:
        self.policy = policy

    def __call__(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor]:
        assert self.policy is not None
        recipe = self.policy.plan(Seen(("blocks.0",)))["blocks.0"]
        return (hidden_states * (1.0 + (16 - recipe.default.weight) / 100),)


def test_plans_are_compared_step_by_step() -> None:
    steps = [Step(noise, {"cond": {"hidden_states": torch.ones(SHAPE)}}) for noise in (1.0, 0.5)]
    model: Any = Model()
    model.tadp.use(SimpleNamespace(plan=lambda blocks: {"blocks.0": Recipe()}))
    references = [predict(model, step) for step in steps]
    done: list[None] = []
    plans = [alone("blocks.0", Recipe(L8)), alone("blocks.0", Recipe(L4))]
    found = prediction_errors(model, steps, references, plans, 1.0, lambda: done.append(None))
    assert [[each.visual for each in row] for row in found] == [
        pytest.approx([0.08**2] * 2, rel=1e-4),
        pytest.approx([0.12**2] * 2, rel=1e-4),
    ]
    assert len(done) == 2


def test_a_role_is_lowered_alone() -> None:
    recipe = role_alone("blocks.0", Role.FFN_UP, L4)["blocks.0"]
    assert recipe[Role.FFN_UP] == L4
    assert recipe[Role.FFN_DOWN] == recipe[Role.ATTENTION] == L16

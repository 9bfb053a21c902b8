"""What a controller makes of prompts and images, without a model."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from tadp.compiler.adoption import adopt_pipeline
from tadp.complexity import image, text
from tadp.complexity.score import IMAGE_TO_VIDEO_WEIGHTS, ScoreWeights, combine
from tadp.policy import Complexity, Policy, Seen, Static
from tadp.policy.plans import uniform_plan
from tadp.policy.staged import Staged
from tadp.precision import L4, L6, L8, L16, Level, Plan, Recipe
from tadp.runtime.controller import Controller, ModelFacts
from tadp.runtime.explanation import ExplainedLayer
from tadp.runtime.pieces import Variant
from tadp.runtime.pool import WeightPool
from tadp.runtime.signals import BlockSignals
from tests.fakes import AskedController, FakeController

PROMPT = "a red circle bounces"
FRAME = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)


def _controller(policy: str | Policy = "complexity", blocks: tuple[str, ...] = ("blocks.0",)) -> Controller:
    pool = WeightPool(lambda weight: pytest.fail("nothing is packed here"))
    return Controller(policy, pool, _NothingToCompile(), ModelFacts(blocks))


class _NothingToCompile:
    def variant(self, piece: object, recipe: Recipe, probing: bool) -> Variant:
        raise AssertionError("nothing is captured here")

    def is_compiled(self, piece: object, recipe: Recipe) -> bool:
        return False

    def layers(self, piece: object, recipe: Recipe) -> tuple[ExplainedLayer, ...]:
        return ()

    def prepare(self, pieces: object, recipes: object, probed: object) -> None:
        pass


class _NoPieces:
    pieces: tuple[Any, ...] = ()
    slots = 0

    def collect(self, environment: list[object]) -> object:
        return None


def _generate(controller: Controller) -> None:
    for step in range(3):
        controller.step(1000.0 - step, lambda: None)


def test_without_an_image_only_the_prompt_counts() -> None:
    controller = _controller()
    controller.begin(prompt=PROMPT)
    _generate(controller)
    assert controller.score == combine(text=text.score(PROMPT).total)


def test_the_policy_chooses_who_scores_prompts() -> None:
    seen = []

    def scorer(prompt: str) -> text.TextScore:
        seen.append(prompt)
        return text.TextScore(0.1, 0.2, 0.3, 0.25 + len(prompt) / 100, {})

    controller = _controller(Complexity(text_scorer=scorer))
    controller.begin(prompt=["a dog", "a cat runs"])
    _generate(controller)
    assert set(seen) == {"a dog", "a cat runs"}
    assert controller.score == combine(text=0.35)


def test_an_image_counts_with_the_weights_of_image_to_video() -> None:
    controller = _controller()
    controller.begin(prompt=PROMPT, image=FRAME)
    _generate(controller)
    words, picture = text.score(PROMPT).total, image.score(FRAME).total
    assert controller.score == combine(IMAGE_TO_VIDEO_WEIGHTS, text=words, image=picture)
    assert controller.score is not None
    assert controller.score.total == pytest.approx((words + picture) / 2)  # equal weights; no signals here


def test_an_image_alone_is_enough() -> None:
    controller = _controller()
    controller.begin(image=[FRAME, np.zeros_like(FRAME)])
    _generate(controller)
    assert controller.score is not None
    assert controller.score.total == pytest.approx(image.score(FRAME).total / 2)


def test_weights_of_the_policy_come_before_those_of_the_task() -> None:
    controller = _controller(Complexity(weights=ScoreWeights(text=1, image=0, feature=0)))
    controller.begin(prompt=PROMPT, image=FRAME)
    _generate(controller)
    assert controller.score is not None
    assert controller.score.total == text.score(PROMPT).total


def test_signals_of_the_first_and_the_last_block_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def scored_with(measured: tuple[BlockSignals, ...]) -> float:
        blocks = ("blocks.0", "blocks.1", "blocks.2")
        controller = _controller(blocks=blocks)
        dispatcher = controller.attach(_NoPieces())
        monkeypatch.setattr(dispatcher, "take_measured", lambda: [*measured])
        controller.begin(prompt=PROMPT)
        _generate(controller)
        assert controller.score is not None
        return controller.score.total

    middle = BlockSignals("blocks.1", {("entropy", ""): (0.7,)})
    ends = (BlockSignals("blocks.0", {("entropy", ""): (0.1,)}), BlockSignals("blocks.2", {("entropy", ""): (0.1,)}))
    assert scored_with((middle, *ends)) == scored_with((middle,))


def test_the_next_generation_forgets_the_image() -> None:
    controller = _controller()
    controller.begin(prompt=PROMPT, image=FRAME)
    controller.begin(prompt=PROMPT)
    _generate(controller)
    assert controller.score is not None
    assert controller.score.image is None


def test_an_image_that_cannot_be_scored_is_refused() -> None:
    controller = _controller()
    generation = controller.clock.generation
    with pytest.raises(ValueError, match="nan_to_num"):
        controller.begin(image=np.full((4, 4), np.nan))
    assert controller.clock.generation == generation


class _Pipeline:
    def __call__(self, prompt: str, image: object = None, num_inference_steps: int = 3) -> object:
        return image


def test_a_pipeline_hands_its_image_on() -> None:
    pipeline, controller = _Pipeline(), _controller()
    adopt_pipeline(pipeline, (controller,))
    assert pipeline(PROMPT, FRAME) is FRAME
    _generate(controller)
    assert controller.score is not None
    assert controller.score.image == image.score(FRAME).total


def test_a_pipeline_takes_images_that_are_no_pictures_and_says_so() -> None:
    pipeline, controller = _Pipeline(), _controller()
    adopt_pipeline(pipeline, (controller,))
    latents = torch.zeros(1, 16, 8, 8)
    with pytest.warns(UserWarning, match="does not count"):
        assert pipeline(PROMPT, latents) is latents
    _generate(controller)
    assert controller.score == combine(text=text.score(PROMPT).total)


@dataclass(frozen=True)
class _Stages(Static):
    """Tells the stage that it was asked about by the level it gives."""

    level: Level = L16
    stages: tuple[float, ...] = (0.8, 0.5)

    def recipes(self) -> tuple[Recipe, ...]:
        return Recipe(), Recipe(L8), Recipe(L4)

    def plan(self, seen: Seen) -> Plan:
        return uniform_plan(seen.blocks, self.recipes()[seen.stage], keep_ends=False)


def _levels_of(controller: Controller, timesteps: list[float | None]) -> list[str]:
    for timestep in timesteps:
        controller.step(timestep, lambda: None)
    return [str(record.plan["blocks.0"]) for record in controller.history]


def test_stages_follow_the_noise_that_is_left() -> None:
    timesteps: list[float | None] = [1000.0, 1000.0, 800.0, 799.0, 500.0, 100.0]
    assert _levels_of(_controller(_Stages()), timesteps) == ["16", "16", "16", "8", "8", "4"]


def test_without_timesteps_stages_follow_the_number_of_steps() -> None:
    controller = _controller(_Stages())
    controller.begin(num_steps=4)
    assert _levels_of(controller, [None] * 4) == ["16", "8", "8", "4"]
    controller.begin()
    assert _levels_of(controller, [None] * 2)[4:] == ["16", "16"]


def test_upward_timesteps_have_no_later_stages() -> None:
    assert _levels_of(_controller(_Stages()), [0.0, 0.5, 1.0]) == ["16", "16", "16"]


def test_another_policy_starts_at_the_stage_that_the_noise_is_in() -> None:
    controller = _controller(_Stages())
    controller.step(1000.0, lambda: None)
    controller.step(100.0, lambda: None)
    controller.use(Staged((Recipe(L8), Recipe(L6)), (0.05,)))
    assert controller.plan["blocks.0"] == Recipe(L8)
    controller.step(10.0, lambda: None)
    assert controller.plan["blocks.0"] == Recipe(L6)


@pytest.mark.parametrize("stages", [(0.5, 0.5), (0.5, 0.8), (1.5,), (0.0,), (math.nan,)])
def test_stages_fall_within_0_and_1(stages: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="fall within"):
        Staged((Recipe(),) * (len(stages) + 1), stages)


def test_every_stage_has_a_recipe() -> None:
    with pytest.raises(ValueError, match="2 stages, not 1"):
        Staged((Recipe(),), (0.5,))


def test_the_fake_of_it_stands_for_the_real_one() -> None:
    assert isinstance(_controller(), AskedController)
    assert isinstance(FakeController(), AskedController)


def _two_controllers(policy: str = "complexity") -> tuple[Controller, Controller]:
    first, second = _controller(policy), _controller(policy)
    first.lead((second,))
    first.share_generations((second,))
    return first, second


def test_transformers_that_take_turns_share_step_noise_probe_and_score() -> None:
    first, second = _two_controllers()
    first.begin(prompt=PROMPT, num_steps=8)
    for timestep in (1000.0, 900.0, 800.0):
        first.step(timestep, lambda: None)
    for timestep in (700.0, 600.0):
        second.step(timestep, lambda: None)
    assert [record.phase for record in first.history] == ["probe", "probe", "run"]
    assert [(record.step, record.phase) for record in second.history] == [(4, "run"), (5, "run")]
    assert first.score == second.score == combine(text=text.score(PROMPT).total)
    assert second.clock.generation == first.clock.generation == 1
    first.begin(prompt="another one")
    first.step(1000.0, lambda: None)
    assert first.history[-1].phase == "probe"
    assert first.history[-1].generation == 2


def test_the_second_transformer_knows_how_much_noise_is_left() -> None:
    first, second = _two_controllers("staged:8,0.5:16")
    first.begin()
    first.step(1000.0, lambda: None)
    for timestep, level in ((600.0, "8"), (400.0, "16")):
        second.step(timestep, lambda: None)
        assert str(second.plan["blocks.0"]) == level


def test_residuals_of_the_first_transformer_go_when_the_second_begins() -> None:
    first, second = _two_controllers("static:8+reuse:0.1")
    tokens = torch.ones(1, 2, 4)
    first.step(1000.0, lambda: first.residuals.call("blocks.0", lambda given: given + 1, (tokens,), {}))
    assert first.residuals.bytes == first.kept_bytes == tokens.nbytes
    second.step(500.0, lambda: None)
    assert first.residuals.bytes == 0
    assert first.kept_bytes == tokens.nbytes


@pytest.mark.parametrize(("fit", "level"), [(True, "16"), (False, "w8a16")])
def test_early_steps_keep_to_the_memory_that_a_generation_begins_with(
    monkeypatch: pytest.MonkeyPatch, fit: bool, level: str
) -> None:
    monkeypatch.setattr(WeightPool, "masters_fit", lambda pool, free: fit)
    controller = _controller(blocks=("blocks.0", "blocks.1", "blocks.2"))
    controller.begin(prompt=PROMPT, num_steps=8)
    controller.step(1000.0, lambda: None)
    assert str(controller.plan["blocks.1"].default) == level
    monkeypatch.setattr(WeightPool, "masters_fit", lambda pool, free: not fit)
    controller.step(990.0, lambda: None)
    assert str(controller.plan["blocks.1"].default) == level  # for the whole generation


def test_the_prompt_alone_decides_where_steps_are_too_few_for_a_probe() -> None:
    controller = _controller(blocks=("blocks.0", "blocks.1", "blocks.2"))
    controller.begin(prompt=PROMPT, num_steps=3)
    controller.step(1000.0, lambda: None)
    (record,) = controller.history
    assert record.phase == "run"
    assert controller.score == combine(text=text.score(PROMPT).total)
    assert f"score {controller.score.total:.2f}" in controller.plan.why("blocks.1")

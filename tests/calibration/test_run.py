import re
from dataclasses import replace
from pathlib import Path

import pytest

from tadp.calibration.clip_policies import BOUNDS, MENU, UNIT, windows
from tadp.calibration.prediction_error import PredictionErrorFile, alone
from tadp.calibration.run import calibrate
from tadp.calibration.sensitivity import gradient_agreement
from tadp.files.calibration import load, save
from tadp.planning.blocks import ends
from tadp.planning.calibration import Calibration
from tadp.policy import Budget, Complexity, Seen
from tadp.precision import L4, L8, L16, Recipe, Role
from tests.calibration.fake_subject import BLOCKS, PROMPTS, STAGES, error_of, fake_subject


def _timeless(found: Calibration) -> Calibration:
    """The calibration without what a clock told."""
    blocks = {
        block: {recipe: replace(cost, seconds=0.0) for recipe, cost in known.items()}
        for block, known in found.costs.blocks.items()
    }
    costs = replace(found.costs, blocks=blocks, other_seconds=0.0)
    return replace(found, costs=costs, table=tuple(replace(row, seconds=0.0) for row in found.table))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return calibrate(fake_subject(), PROMPTS, tmp_path_factory.mktemp("work"), roles=True)


def test_every_block_has_costs_at_every_recipe(found: Calibration) -> None:
    assert set(found.costs.blocks) == set(BLOCKS)
    for known in found.costs.blocks.values():
        assert set(known) == set(MENU)
        assert known[Recipe()].error == (0.0,) * 4
        assert known[Recipe(L8)].bytes == 0
        assert known[Recipe()].bytes == 300
        assert known[Recipe(L4)].error[1] > known[Recipe(L8)].error[1] > 0
    at_8 = [found.costs.error(block, Recipe(L8)) for block in BLOCKS]
    assert at_8 == sorted(at_8)


def test_stages_weigh_what_lowering_them_does(found: Calibration) -> None:
    assert sum(found.costs.shares) == pytest.approx(1.0)
    assert found.costs.shares[1] > found.costs.shares[2] > found.costs.shares[3]


def test_the_score_predicts_what_the_prompts_cost(found: Calibration) -> None:
    assert found.left_out > 0.9
    assert found.correlations["entropy"] < -0.9
    assert all(span.weight != 0 for span in found.ranges.values())
    assert found.costs.slope > 0
    assert abs(found.bias["static:8+attention"]) < 1.0


def test_roles_are_measured_by_their_quality(found: Calibration) -> None:
    roles = {(item.role, item.quality, item.level) for item in found.sensitivity}
    assert roles == {
        (Role.FFN_UP, "visual", L8),
        (Role.FFN_UP, "visual", L4),
        (Role.SELF_ATTN_QKV, "temporal", L8),
        (Role.SELF_ATTN_QKV, "temporal", L4),
        (Role.ATTENTION, "temporal", L8),
    }
    assert gradient_agreement(found.sensitivity) == {"8": pytest.approx(1.0), "4": pytest.approx(1.0)}


def test_roles_are_left_out_unless_asked_for(found: Calibration, tmp_path: Path) -> None:
    assert _timeless(calibrate(fake_subject(), PROMPTS, tmp_path)) == replace(_timeless(found), sensitivity=())


def test_a_calibration_is_saved_and_read(found: Calibration, tmp_path: Path) -> None:
    save(found, tmp_path / "calibration.json")
    assert load(tmp_path / "calibration.json") == found


@pytest.mark.parametrize("clips", [0, 1, 40, 85])
def test_a_killed_calibration_goes_on_to_the_same_result(found: Calibration, tmp_path: Path, clips: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        calibrate(fake_subject(interrupt=clips), PROMPTS, tmp_path, roles=True)
    resumed = fake_subject()
    assert _timeless(calibrate(resumed, PROMPTS, tmp_path, roles=True)) == _timeless(found)
    assert resumed.pipeline.clips <= 102 + 1 - clips


def test_prediction_errors_go_on_after_a_kill_and_refuse_other_steps(tmp_path: Path) -> None:
    path, subject = tmp_path / "errors.jsonl", fake_subject()
    first = PredictionErrorFile(path, subject).of(alone("blocks.1", Recipe(L8)))
    path.write_text(path.read_text() + '["fixed:blocks.2=8", [{"vis')
    assert PredictionErrorFile(path, subject).of(alone("blocks.1", Recipe(L8))) == first
    assert len(path.read_text().splitlines()) == 2
    with pytest.raises(ValueError, match="remove it to measure anew"):
        PredictionErrorFile(path, replace(subject, recorded=subject.recorded[:2]))


def test_a_calibration_is_whole_before_it_is_saved(found: Calibration) -> None:
    assert set(found.channel_widths) == set(found.channel_peaks) == {f"{block}.ffn.up" for block in BLOCKS}
    assert {len(peaks) for peaks in found.channel_peaks.values()} == {len(found.costs.stages) + 1}


def test_windows_lower_one_stage_each() -> None:
    for lowered, policy in enumerate(windows(STAGES)):
        recipes = [policy.plan(Seen(BLOCKS, stage=stage))["blocks.0"] for stage in range(4)]  # type: ignore[call-arg]
        assert [recipe != Recipe() for recipe in recipes] == [stage == lowered for stage in range(4)]


def test_policies_take_what_was_found(found: Calibration) -> None:
    complexity = Complexity(key_blocks=0.5).calibrated(found)
    assert complexity.ranges == found.ranges
    assert complexity.sensitive == ("blocks.2", "blocks.1")
    assert complexity.kept is not None
    assert complexity.kept <= {BLOCKS[0], BLOCKS[-1]}
    plan = complexity.plan(Seen(BLOCKS, 0.9, stage=len(complexity.stages)))
    assert plan["blocks.2"].default == L16
    assert "sensitive" in plan.why("blocks.2")
    budget = Budget(quality=35.0).calibrated(found)
    for score in (0.0, 0.5, 1.0):
        for stage in range(4):
            plan = budget.plan(Seen(BLOCKS, score, stage=stage))
            assert {plan[block].running for block in ends(BLOCKS)} == {Recipe()}


def test_reuse_is_measured_stage_by_stage_and_on_top_of_widths(found: Calibration) -> None:
    reuse = found.costs.reuse
    assert reuse is not None
    assert reuse.bounds == BOUNDS
    assert reuse.shares[0] == 0.0
    assert sum(reuse.shares) == pytest.approx(1.0)
    assert all(spans[0] == (0.0, 0.0) for spans in reuse.skipped.values())  # the probe runs
    assert reuse.skipped[UNIT][1:] == ((0.0, 0.0), (1.0, 1.0), (0.0, 0.0))  # one step in each, and every second one is
    factors = [reuse.factors[bound] for bound in BOUNDS]
    assert factors == sorted(factors)
    assert reuse.bytes == 500


@pytest.mark.parametrize("recipe", MENU[1:], ids=str)
def test_errors_of_a_recipe_are_those_of_clips_at_it(found: Calibration, recipe: Recipe) -> None:
    costs = found.costs
    told = sum(costs.error(block, recipe) for block in BLOCKS) / sum(costs.error(block, costs.base) for block in BLOCKS)
    clip, base = error_of(recipe), error_of(costs.base)
    assert told == pytest.approx((clip / base) ** 2, rel=1e-3)


def test_how_long_it_takes_is_said_first(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        calibrate(fake_subject(interrupt=1), PROMPTS, tmp_path, said.append)
    assert "about 0 minutes" in said[0]
    clips, steps = map(int, re.findall(r"(\d+) clips and (\d+) single steps", said[0])[0])
    assert steps == len(BLOCKS) * (len(MENU) - 1) * 4
    whole = fake_subject()
    calibrate(whole, PROMPTS, tmp_path)  # one clip was made to tell the time, and one is for what lies outside forwards
    assert whole.pipeline.clips == clips + 1
    calibrate(fake_subject(), PROMPTS, tmp_path, said.append)
    assert len(said) == 1

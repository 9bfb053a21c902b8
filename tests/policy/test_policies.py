import itertools

import pytest

from tadp.complexity import text
from tadp.policy import Complexity, Seen, Static, parse
from tadp.policy.plans import scored
from tadp.precision import L4, L6, L8, L16, Level, Recipe, Reuse, Role
from tadp.runtime.signals import BlockSignals, Signals
from tests.policy.costs_of import BLOCKS as COSTED
from tests.policy.costs_of import made_up, made_up_costs

BLOCKS = tuple(f"blocks.{index}" for index in range(10))


def _levels(policy: Complexity, score: float | None, signals: tuple[Signals, ...] = ()) -> list[str]:
    return [str(recipe.default) for _, recipe in policy.plan(Seen(BLOCKS, score, signals))]


def test_static_sets_every_block() -> None:
    assert {recipe for _, recipe in parse("static:4").plan(Seen(BLOCKS))} == {Recipe(L4)}


def test_static_can_keep_the_ends() -> None:
    plan = Static(L8, keep_ends=True).plan(Seen(BLOCKS))
    assert plan["blocks.0"] == plan["blocks.9"] == Recipe(L16)
    assert plan["blocks.1"] == Recipe(L8)


def test_the_ends_of_every_list_are_kept() -> None:
    blocks = ("double.0", "double.1", "double.2", "single.0", "single.1", "single.2")
    plan = Static(L8, keep_ends=True).plan(Seen(blocks))
    assert {block for block, recipe in plan if recipe == Recipe(L8)} == {"double.1", "single.1"}


def test_ends_have_no_part_in_scores_unless_there_is_nothing_else() -> None:
    assert scored(("a.0", "a.1", "a.2", "b.0", "b.1", "b.2")) == {"a.1", "b.1"}
    assert scored(("a.0", "a.1")) == {"a.0", "a.1"}


def test_levels_may_be_given_as_numbers() -> None:
    assert Static(8) == Static(L8)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="valid levels"):
        Static(Level(5, 8))


def test_attention_is_named_by_itself() -> None:
    policy = parse("static:8+attention")
    assert policy.plan(Seen(BLOCKS))["blocks.3"][Role.ATTENTION] == L8
    assert parse("static:8").plan(Seen(BLOCKS))["blocks.3"][Role.ATTENTION] == L16


@pytest.mark.parametrize(
    ("score", "cheap_from"), [(None, 4), (0.0, 1), (0.2999, 1), (0.3, 2), (0.6999, 2), (0.7, 3), (1.0, 3)], ids=str
)
def test_the_score_says_how_soon_cheap_steps_begin(score: float | None, cheap_from: int) -> None:
    policy = Complexity(key_blocks=0, reuse=0)
    assert policy.stages == policy.late
    for stage in range(len(policy.stages) + 1):
        plan = policy.plan(Seen(BLOCKS, score, stage=stage))
        expected = "8+attention:8" if stage >= cheap_from else "16"
        assert {str(plan[block]) for block in BLOCKS[1:-1]} == {expected}
        assert plan[BLOCKS[0]].default == plan[BLOCKS[-1]].default == L16


def test_one_bound_may_hold_for_all_scores() -> None:
    policy = parse("complexity:late=0.9")
    assert policy == Complexity(late=(0.9, 0.9, 0.9))
    assert policy.stages == (0.9,)
    for score in (0.0, 0.5, 1.0):
        levels = [policy.plan(Seen(BLOCKS, score, stage=stage))["blocks.5"].default for stage in (0, 1)]
        assert levels[0] == L16
    assert levels[1] != L16


def test_early_steps_and_the_probe_may_have_other_levels() -> None:
    policy = Complexity(early=Level.parse("w8a16"), probe=L8)
    assert set(_levels(policy, None)[1:-1]) == {"8"}
    assert set(_levels(policy, 0.5)[1:-1]) == {"w8a16"}
    assert _levels(policy, 0.5)[0] == _levels(policy, None)[-1] == "16"


def test_early_steps_keep_weights_at_8_bits_where_there_is_no_room_for_more() -> None:
    for score in (None, 0.1, 0.5, 0.9):
        plan = Complexity().plan(Seen(BLOCKS, score, masters_fit=False))
        assert {str(plan[block].default) for block in BLOCKS[1:-1]} == {"w8a16"}
        assert "no room for 16-bit weights" in plan.why("blocks.5")
    assert "room" not in Complexity().plan(Seen(BLOCKS, 0.5)).why("blocks.5")


def test_simple_content_runs_at_the_lowest_level() -> None:
    policy = Complexity(lowest=L6)
    for score, middle in ((0.0, L6), (0.2999, L6), (0.3, L8)):
        assert policy.plan(Seen(BLOCKS, score, stage=3))["blocks.5"].default == middle


def test_attention_stays_at_16_where_8_bits_are_no_faster() -> None:
    for score in (0.1, 0.5, 0.9):
        for stage in (0, 3):
            plan = Complexity().plan(Seen(BLOCKS, score, stage=stage, fast_attention=False))
            assert {recipe[Role.ATTENTION] for _, recipe in plan} == {L16}


def test_ends_that_a_calibration_found_no_more_sensitive_follow_the_others() -> None:
    policy = Complexity().calibrated(made_up())
    assert policy.kept is not None
    plan = policy.plan(Seen(COSTED, 0.5, stage=3))
    for block in (COSTED[0], COSTED[-1]):
        assert (plan[block].default == L16) == (block in policy.kept)


@pytest.mark.parametrize(
    ("score", "stage", "bound"),
    [(None, 0, 0.0), (None, 3, 0.0), (0.1, 0, 0.0), (0.1, 1, 0.04), (1.0, 2, 0.0), (1.0, 3, 0.04)],
    ids=str,
)
def test_blocks_are_reused_late(score: float | None, stage: int, bound: float) -> None:
    plan = Complexity(reuse=0.04, guidance=0.04).plan(Seen(BLOCKS, score, stage=stage))
    assert {recipe.reuse for _, recipe in plan} == {Reuse(bound)}
    assert plan.guidance == Reuse(bound)


def test_every_class_of_content_may_have_a_bound_of_its_own() -> None:
    policy = parse("complexity:reuse=0.02/0.01/0")
    assert policy == Complexity(reuse=(0.02, 0.01, 0.0))
    for score, bound in ((0.1, 0.02), (0.5, 0.01), (0.9, 0.0)):
        late = policy.plan(Seen(BLOCKS, score, stage=3))
        assert {recipe.reuse for _, recipe in late} == {Reuse(bound) if bound else None}
        early = policy.plan(Seen(BLOCKS, score))
        assert {recipe.reuse for _, recipe in early} == {Reuse(0.0) if bound else None}
    assert {recipe.reuse for _, recipe in policy.plan(Seen(BLOCKS))} == {Reuse(0.0)}
    assert str(parse("complexity:reuse=0.01/0.01/0.01")) == "complexity:reuse=0.01"


def test_reuse_can_be_left_out() -> None:
    plan = Complexity(reuse=0).plan(Seen(BLOCKS, 0.5))
    assert {recipe.reuse for _, recipe in plan} == {None}
    assert plan.guidance is None


@pytest.mark.parametrize(
    "late", [(0.9, 0.8, 0.0), (1.1, 0.9, 0.8), (0.8, 0.9, 0.7), (0.9, 0.8), (0.9, 0.8, float("nan"))]
)
def test_impossible_late_steps_are_refused(late: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="late must be three noise levels"):
        Complexity(late=late)


@pytest.mark.parametrize("reuse", [-0.1, float("nan"), (0.1, 0.2), (0.1, 0.1, -0.1), ()])
def test_impossible_bounds_of_reuse_are_refused(reuse: float | tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="reuse must be"):
        Complexity(reuse=reuse)


def test_high_scores_put_the_most_changing_blocks_at_16() -> None:
    changes = dict(zip(BLOCKS, (9.0, 0.1, 0.9, 0.2, 0.8, 0.1, 0.1, 0.1, 0.1, 9.0), strict=True))
    signals = Signals(
        tuple(BlockSignals(block, {("relative_change", ""): (change,)}) for block, change in changes.items())
    )
    plan = Complexity().plan(Seen(BLOCKS, 0.7, (signals,), stage=3))
    at_16 = {block for block, recipe in plan if recipe.default == L16}
    assert at_16 == {"blocks.0", "blocks.2", "blocks.4", "blocks.9"}
    assert {recipe.default for _, recipe in plan} == {L16, L8}


@pytest.mark.parametrize("arguments", [{"low": 0.8}, {"high": 1.2}, {"low": -0.1}, {"key_blocks": 2.0}])
def test_impossible_thresholds_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1|0 <= low"):
        Complexity(**arguments)


@pytest.mark.parametrize(
    "policy",
    [Complexity(), Complexity(lowest=L6), Static(L6), Static(Level.parse("w4a16"), keep_ends=True)],
    ids=str,
)
def test_plans_use_announced_recipes_only(policy: Complexity | Static) -> None:
    announced = {recipe.running for recipe in policy.recipes()}
    for score in (None, 0.0, 0.5, 1.0):
        for stage in range(len(policy.stages) + 1):
            for fits, fast in itertools.product((True, False), repeat=2):
                seen = Seen(BLOCKS, score, stage=stage, masters_fit=fits, fast_attention=fast)
                assert {recipe.running for _, recipe in policy.plan(seen)} <= announced


def test_a_calibration_names_the_key_blocks() -> None:
    plan = Complexity(key_blocks=0.5).calibrated(made_up()).plan(Seen(COSTED, 0.9, stage=3))
    assert [str(plan[block].default) for block in COSTED] == ["8", "8", "8", "16", "16", "16"]
    assert "calibration" in plan.why(COSTED[4])


def test_simple_content_runs_at_6_bits_where_that_saves_memory() -> None:
    policy = Complexity().calibrated(made_up())
    assert policy.plan(Seen(COSTED, 0.1, stage=1))[COSTED[2]].default == L6
    assert Static(L6, attention=L8).recipe in policy.recipes()


def test_a_calibration_sets_back_the_scorer_that_it_was_not_fitted_to() -> None:
    policy = Complexity(low=0.2, text_scorer=lambda prompt: text.score(prompt))
    assert policy.text_scorer is not text.score
    assert policy.calibrated(made_up()).text_scorer is text.score
    assert policy.calibrated(made_up()).low == 0.2


def test_a_scorer_must_be_a_function() -> None:
    with pytest.raises(TypeError, match="text_scorer"):
        Complexity(text_scorer="bert")  # type: ignore[arg-type]


def test_simple_content_runs_at_8_bits_where_6_save_nothing() -> None:
    as_8 = made_up_costs(changed={Recipe(L6): (2e-4, 6.9, 100)})  # faster by less than timing can tell
    policy = Complexity().calibrated(made_up(as_8))
    assert policy.plan(Seen(COSTED, 0.1, stage=1))[COSTED[2]].default == L8
    assert all(recipe.default != L6 for recipe in policy.recipes())

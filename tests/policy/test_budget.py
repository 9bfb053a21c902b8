import itertools
import math
import warnings
from dataclasses import replace

import pytest

from tadp.errors import CalibrationWarning, QualityWarning
from tadp.planning.blocks import ends
from tadp.planning.costs import BlockCost, Costs, Schedule
from tadp.planning.curve import curve_of
from tadp.planning.reuse_costs import bound_of
from tadp.policy import Budget, Policy, Seen
from tadp.policy.plans import uniform_plan
from tadp.precision import L4, L8, L16, Plan, Recipe, Reuse
from tests.policy.costs_of import BLOCKS, MENU, REUSE, STAGES, at, made_up, made_up_costs

SCORES = (0.0, 0.3, 0.5, 1.0)
FEW = BLOCKS[:3]


def _budget(**bounds: float) -> Budget:
    return Budget(**bounds).calibrated(made_up())  # type: ignore[arg-type]


def test_errors_of_blocks_and_stages_add_up_and_content_scales_them() -> None:
    costs = made_up_costs()
    base = [uniform_plan(BLOCKS, costs.base, keep_ends=False)] * 4
    assert costs.mse(base, 0.0) == pytest.approx(1e-5)
    assert costs.mse(base, 0.5) == pytest.approx(1e-4)
    assert costs.psnr(base, 0.5) == pytest.approx(40.0)
    assert costs.psnr(base, 0.5, deviations=2.0) == pytest.approx(34.0)
    only_second = [uniform_plan(BLOCKS, Recipe(), False), base[0], *[uniform_plan(BLOCKS, Recipe(), False)] * 2]
    assert costs.mse(only_second, 0.0) == pytest.approx(0.6e-5)
    assert costs.mse([uniform_plan(BLOCKS, Recipe(), False)] * 4, 1.0) == 0.0
    assert costs.psnr([uniform_plan(BLOCKS, Recipe(), False)] * 4, 1.0) == math.inf
    assert sum(costs.error(block, costs.base) for block in BLOCKS) == pytest.approx(1.0)


def test_seconds_count_steps_and_bytes_the_widest_stage() -> None:
    costs = made_up_costs()
    mixed = [uniform_plan(BLOCKS, at(L8), False), *[uniform_plan(BLOCKS, Recipe(), False)] * 3]
    assert costs.seconds(mixed) == pytest.approx(0.5 + 2 * 6 * 0.07 + 18 * 6 * 0.1)
    assert costs.bytes(mixed) == 1000 + 6 * 300


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("quality", [30.0, 38.0, 45.0])
def test_the_fastest_plan_of_a_quality_is_that_of_brute_force(quality: float, score: float) -> None:
    costs = replace(made_up_costs(FEW), stages=STAGES[:1], steps=(2, 6), shares=(0.1, 0.9))
    costs = replace(
        costs,
        blocks={b: {r: replace(c, error=c.error[:2]) for r, c in known.items()} for b, known in costs.blocks.items()},
    )
    budget = replace(Budget(quality=quality, keep_ends=False), costs=costs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QualityWarning)
        found = budget.schedule(score)
    rounded = math.ceil(score / 0.05 - 1e-9) * 0.05
    possible = [s for s in _all(costs, found[0]) if costs.psnr(s, rounded) >= quality]
    if possible:
        fastest = min(map(costs.seconds, possible))
        assert costs.seconds(found) == pytest.approx(fastest, rel=1e-3)
        assert costs.psnr(found, rounded) >= quality - 1e-3
    else:
        assert {recipe for _, recipe in found[1]} == {Recipe()}


@pytest.mark.parametrize("latency", [4.0, 5.0, 6.5])
def test_the_best_plan_within_a_latency_is_that_of_brute_force(latency: float) -> None:
    costs = replace(made_up_costs(FEW), stages=STAGES[:1], steps=(2, 18), shares=(0.1, 0.9))
    costs = replace(
        costs,
        blocks={b: {r: replace(c, error=c.error[:2]) for r, c in known.items()} for b, known in costs.blocks.items()},
    )
    found = replace(Budget(latency=latency, keep_ends=False), costs=costs).schedule(0.5)
    least = min(costs.mse(s, 0.5) for s in _all(costs, found[0]) if costs.seconds(s) <= latency)
    assert costs.seconds(found) <= latency * (1 + 1e-6)
    assert costs.mse(found, 0.5) == pytest.approx(least, rel=1e-3)


def _all(costs: Costs, probe: Plan) -> list[Schedule]:
    plans = (
        Plan.of(zip(costs.blocks, picks, strict=True)) for picks in itertools.product(MENU, repeat=len(costs.blocks))
    )
    return [(probe, plan) for plan in plans]


@pytest.mark.parametrize(
    "bounds", [{"quality": 20.0}, {"quality": 45.0}, {"latency": 11.0}, {"memory": 2500.0}], ids=str
)
def test_first_and_last_block_are_never_lowered(bounds: dict[str, float]) -> None:
    budget = _budget(**bounds)
    for score, stage in itertools.product((None, *SCORES), range(4)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", QualityWarning)
            plan = budget.plan(Seen(BLOCKS, score, stage=stage))
        assert {plan[block] for block in ends(BLOCKS)} == {Recipe()}


def test_harder_content_never_gets_less_time() -> None:
    budget = _budget(quality=42.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", QualityWarning)
        seconds = [made_up_costs().seconds(budget.schedule(score / 20)) for score in range(21)]
    assert seconds == sorted(seconds)
    assert seconds[0] < seconds[-1]


def test_four_bits_only_where_the_bound_allows() -> None:
    recipes = {recipe for plan in _budget(quality=40.0).schedule(0.5) for _, recipe in plan}
    assert at(L4) not in recipes
    small = Budget(quality=10.0, recipes_allowed=(at(L4), Recipe())).calibrated(made_up())
    assert small.schedule(0.0)[2]["blocks.2"] == at(L4)


def test_recipes_that_gain_nothing_are_not_chosen() -> None:
    costs = made_up_costs()
    assert costs.worthwhile("blocks.1", tuple(MENU)) == tuple(MENU)  # 6 and 4 bits are smaller
    nearly = {**MENU, at(L4): (3e-3, 4.9, 100)}  # 2 % faster than 8 bits with attention, and no smaller
    blocks = {
        block: {recipe: BlockCost((error,) * 4, seconds, size) for recipe, (error, seconds, size) in nearly.items()}
        for block in BLOCKS
    }
    assert at(L4) not in replace(costs, blocks=blocks).worthwhile("blocks.1", tuple(nearly))


def test_memory_limits_what_stays_at_16() -> None:
    costs = made_up_costs()
    schedule = _budget(memory=2400.0).schedule(0.5)
    assert costs.bytes(schedule) <= 2400
    assert costs.bytes(_budget(latency=100.0).schedule(0.5)) > 2400


@pytest.mark.parametrize(("name", "limit"), [("latency", 1.0), ("memory", 1500.0)])
def test_impossible_limits_say_what_is_possible(name: str, limit: float) -> None:
    with pytest.raises(ValueError, match=f"a {name} of .* needs at least"):
        _budget(**{name: limit})


def test_quality_that_nothing_else_reaches_gets_16_bits() -> None:
    budget = _budget(quality=90.0)
    for stage in range(2):
        assert {recipe for _, recipe in budget.plan(Seen(BLOCKS, 1.0, stage=stage))} == {Recipe()}


def test_limits_go_before_quality() -> None:
    costs = made_up_costs()
    budget = _budget(quality=60.0, latency=11.0)
    with pytest.warns(QualityWarning, match="60 dB cannot be promised"):
        budget.plan(Seen(BLOCKS, 1.0, stage=1))
    assert costs.seconds(budget.schedule(1.0)) <= 11.0 * (1 + 1e-6)


def test_calls_of_other_steps_than_the_calibrated_one_are_warned_of() -> None:
    budget, calibrated = _budget(quality=40.0), sum(made_up_costs().steps)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CalibrationWarning)
        budget.plan(Seen(BLOCKS, steps=calibrated))
        budget.plan(Seen(BLOCKS))
    with pytest.warns(CalibrationWarning, match=f"takes 7 steps and the calibration is of {calibrated}"):
        budget.plan(Seen(BLOCKS, steps=7))


def test_caution_takes_time() -> None:
    costs = made_up_costs()
    bold, careful = (_budget(quality=43.0, deviations=deviations).schedule(0.4) for deviations in (0.0, 1.0))
    assert costs.seconds(careful) > costs.seconds(bold)
    assert costs.psnr(careful, 0.4, deviations=1.0) >= 43.0


def test_the_probe_is_the_same_for_all_content_and_explained() -> None:
    for bounds in ({"quality": 20.0}, {"quality": 60.0}, {"latency": 11.0}):
        budget = _budget(**bounds)
        plan = budget.plan(Seen(BLOCKS))
        assert plan["blocks.0"] == plan["blocks.5"] == Recipe()
        assert {recipe for _, recipe in plan} <= set(budget.recipes())
        assert all(budget.schedule(score)[0] == plan for score in SCORES)
        assert plan.why("blocks.0") == "first or last block"
        assert "measured by the probe" in plan.why("blocks.1")


@pytest.mark.parametrize("quality", [20.0, 38.0, 42.0, 60.0])
def test_blocks_of_a_probe_have_one_recipe(quality: float) -> None:
    plan = _budget(quality=quality).plan(Seen(BLOCKS))
    assert len({recipe for block, recipe in plan if block not in ends(BLOCKS)}) == 1
    free = Budget(quality=quality, keep_ends=False).calibrated(made_up(REUSING)).plan(Seen(BLOCKS))
    assert len({recipe for _, recipe in free}) == 1


def test_harder_bounds_make_the_probe_more_precise() -> None:
    costs = made_up_costs()
    errors = [
        sum(costs.blocks[block][recipe].error[0] for block, recipe in _budget(quality=quality).plan(Seen(BLOCKS)))
        for quality in (20.0, 40.0, 60.0)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > errors[-1]


def test_every_block_has_a_reason() -> None:
    plan = _budget(latency=11.0).plan(Seen(BLOCKS, 0.5, stage=2))
    assert plan.why("blocks.0") == "first or last block"
    lowered = next(block for block, recipe in plan if recipe != Recipe())
    assert "of its time for" in plan.why(lowered)


def test_without_a_calibration_the_way_to_one_is_named() -> None:
    for use in (lambda: Budget(quality=40.0).recipes(), lambda: Budget(quality=40.0).plan(Seen(BLOCKS))):
        with pytest.raises(ValueError, match="tadp calibrate"):
            use()


def test_blocks_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"block other\.0 was not calibrated"):
        _budget(quality=40.0).plan(Seen(("other.0", *BLOCKS)))


@pytest.mark.parametrize("bounds", [{}, {"quality": math.nan}, {"latency": 0.0}, {"memory": -1.0}], ids=str)
def test_bounds_have_to_be_bounds(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"bound|above 0"):
        Budget(**bounds)  # type: ignore[arg-type]


def test_plans_use_announced_recipes_only() -> None:
    budget: Policy = _budget(quality=40.0)
    named = {recipe for score in SCORES for plan in _budget(quality=40.0).schedule(score) for _, recipe in plan}
    assert named <= set(budget.recipes())


def test_the_curve_falls_from_slow_and_good_to_fast() -> None:
    points = curve_of(made_up_costs(), 0.5)
    assert len(points) > 3
    seconds, quality = [point.seconds for point in points], [point.psnr for point in points]
    assert seconds == sorted(seconds, reverse=True)
    assert quality == sorted(quality, reverse=True)
    assert points[0].lowered == 0.0
    assert points[-1].lowered == pytest.approx(4 / 6)


def test_levels_of_the_menu_can_be_given_as_recipes() -> None:
    budget = Budget(latency=11.0, recipes_allowed=(Recipe(), at(L8), at(L16, True))).calibrated(made_up())
    assert {recipe for plan in budget.schedule(0.5) for _, recipe in plan} <= {Recipe(), at(L8), at(L16, True)}


REUSING = replace(made_up_costs(), reuse=REUSE)


def _reusing(**bounds: float) -> Budget:
    return Budget(**bounds).calibrated(made_up(REUSING))  # type: ignore[arg-type]


def _with_reuse(schedule: Schedule, *bounds: float) -> Schedule:
    pairs = zip(schedule, bounds, strict=True)
    return tuple(
        Plan.of((block, replace(recipe, reuse=Reuse(bound))) for block, recipe in plan) for plan, bound in pairs
    )


def test_reuse_adds_an_error_of_its_own_and_saves_steps() -> None:
    base = (uniform_plan(BLOCKS, REUSING.base, keep_ends=False),) * 4
    reusing = _with_reuse(base, 0.0, 0.0, 0.02, 0.02)
    assert REUSING.mse(reusing, 0.0) == pytest.approx(1e-5 + 1e-5 * 3.0 * 0.2)
    assert REUSING.mse(reusing, 1.0) == pytest.approx(1e-3 + 10**-4.5 * 3.0 * 0.2)
    assert REUSING.seconds(reusing, 0.0) == pytest.approx(0.5 + 6 * 0.05 * (8 + 12 * 0.5))
    assert REUSING.seconds(reusing, 1.0) == pytest.approx(0.5 + 6 * 0.05 * (8 + 12 * 0.6))
    assert REUSING.bytes(reusing) == REUSING.bytes(base) + 500


def test_blocks_that_always_run_make_a_stage_without_reuse() -> None:
    plan = uniform_plan(BLOCKS, Recipe(L8, reuse=Reuse(0.02)), keep_ends=False)
    assert bound_of(plan) == 0.02
    assert bound_of(plan.replaced("blocks.3", Recipe(L8))) == 0.0
    assert bound_of(plan.replaced("blocks.3", Recipe(L8, reuse=Reuse(0.005)))) == 0.005


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("quality", [36.0, 42.0, 48.0])
def test_where_reuse_begins_and_its_bound_are_those_of_brute_force(quality: float, score: float) -> None:
    budget = _reusing(quality=quality)
    rounded = math.ceil(score / 0.05 - 1e-9) * 0.05
    found, within = budget._planner.solve(score)
    possible = []
    for first, bound in ((4, 0.0), *itertools.product((1, 2, 3), REUSE.bounds)):
        bounds = [bound if stage >= first else 0.0 for stage in range(4)]
        room = 10 ** (-quality / 10) - REUSE.mse(bounds, rounded)
        if room > 0:  # what is left for widths: a budget without reuse, in fewer steps
            costs = replace(REUSING, steps=REUSING.running_steps(bounds, rounded))
            plain = replace(budget, quality=-10 * math.log10(room), reuse=0.0, costs=costs)._planner
            plain.__dict__["probe"] = Plan.of((block, recipe.running) for block, recipe in budget.plan(Seen(BLOCKS)))
            schedule, reached = plain.solve(score)
            possible += [costs.seconds(schedule, rounded)] if reached else []
    assert within == bool(possible)
    if within:
        assert REUSING.seconds(found, rounded) == pytest.approx(min(possible), rel=4e-3)
        assert REUSING.psnr(found, rounded) >= quality - 1e-3
    else:
        assert not any(map(bound_of, found))


def test_simple_content_is_reused_and_complex_content_less() -> None:
    budget = _reusing(quality=42.0)
    schedules = {score: budget.schedule(score) for score in (0.0, 1.0)}
    bounds = {score: [bound_of(plan) for plan in schedule] for score, schedule in schedules.items()}
    assert max(bounds[0.0]) > 0
    assert sum(bounds[0.0]) >= sum(bounds[1.0])
    first = [bound > 0 for bound in bounds[0.0]].index(True)
    for stage, plan in enumerate(schedules[0.0]):  # stages before keep what it begins with
        assert all((recipe.reuse is not None) for _, recipe in plan) == (stage <= first or bounds[0.0][stage] > 0)
    assert all(schedule[0] == budget.plan(Seen(BLOCKS)) for schedule in schedules.values())


def test_reuse_can_be_bounded_and_left_out() -> None:
    none = replace(_reusing(quality=20.0), reuse=0.0)
    assert all(recipe.reuse is None for plan in none.schedule(0.0) for _, recipe in plan)
    assert none.schedule(0.0) == _budget(quality=20.0).schedule(0.0)
    little = replace(_reusing(quality=20.0), reuse=0.01)
    assert {bound_of(plan) for plan in little.schedule(0.0)} <= {0.0, 0.005}
    assert {bound_of(plan) for plan in _reusing(quality=20.0).schedule(0.0)[1:]} == {0.02}
    with pytest.raises(ValueError, match="bound of at least 0"):
        Budget(quality=20.0, reuse=-1.0)


def test_the_best_plan_of_a_time_reuses_only_where_time_is_short() -> None:
    slow, fast = (_reusing(latency=latency).schedule(0.5) for latency in (100.0, 6.0))
    assert not any(map(bound_of, slow))
    assert any(map(bound_of, fast))
    assert REUSING.seconds(fast, 0.5) <= 6.0 * (1 + 1e-6)


def test_residuals_count_in_a_memory() -> None:
    schedule = _reusing(quality=20.0, memory=2400.0).schedule(0.0)
    assert REUSING.bytes(schedule) <= 2400


def test_complex_content_runs_as_fast_as_it_can_where_it_reuses_too_little_for_a_latency() -> None:
    least = REUSING.seconds(_reusing(quality=1.0).schedule(0.5), 0.5)
    budget = _reusing(latency=least * 1.02)
    for score in SCORES:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            plan = budget.plan(Seen(BLOCKS, score, stage=1))
        schedule, within = budget._planner.solve(score)
        assert plan == schedule[1]
        assert within == (REUSING.seconds(schedule, score) <= least * 1.02 * (1 + 1e-6))
        assert ["s cannot be promised" in str(warning.message) for warning in said] == [True] * (not within)
    assert not budget._planner.solve(1.0)[1]


def test_a_probe_runs_at_what_is_allowed() -> None:
    budget = Budget(latency=100.0, keep_ends=False, recipes_allowed=(at(L8),)).calibrated(made_up())
    assert {recipe for _, recipe in budget.plan(Seen(BLOCKS))} == {at(L8)}
    kept = Budget(latency=100.0, recipes_allowed=(at(L8),)).calibrated(made_up(made_up_costs(BLOCKS[:2])))
    assert {recipe for _, recipe in kept.plan(Seen(BLOCKS[:2]))} == {Recipe()}


def test_reuse_begins_only_where_its_error_is_known() -> None:
    known = replace(REUSING, reuse=replace(REUSE, shares=(0.0, 0.0, 1.0, 0.0)))
    schedule = Budget(quality=1.0).calibrated(made_up(known)).schedule(0.0)
    assert [bound_of(plan) > 0 for plan in schedule] == [False, False, True, False]


def test_residuals_of_the_probe_count_in_a_memory() -> None:
    needed = REUSING.bytes(_reusing(quality=1.0).schedule(0.0))
    for limit in (needed - 1.0, needed):
        try:
            found = _reusing(quality=1.0, memory=limit).schedule(0.0)
        except ValueError:
            assert limit < needed
        else:
            assert REUSING.bytes(found) <= limit

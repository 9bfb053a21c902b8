from collections import Counter

import pytest

from tadp.precision import L4, L6, L8, Plan, Recipe
from tadp.runtime.shadows import ShadowRotation, price, turns

R8, R6, R4, R16 = Recipe(L8), Recipe(L6), Recipe(L4), Recipe()
CANDIDATES = (R8, R6, R16)


def _plan(middle: int, recipe: Recipe = R8) -> Plan:
    inner = {f"blocks.{index}": recipe for index in range(1, middle + 1)}
    return Plan.of({"blocks.0": R16, **inner, f"blocks.{middle + 1}": R16})


def test_every_measured_block_has_a_turn_at_every_other_recipe() -> None:
    order = turns(_plan(5), CANDIDATES)
    assert len(order) == len(set(order)) == 10
    assert {block for block, _ in order} == {f"blocks.{index}" for index in range(1, 6)}
    assert {recipe for _, recipe in order} == {R6, R16}
    assert {recipe for _, recipe in order[:2]} == {R6, R16}  # neighbours differ


def test_blocks_that_run_at_different_recipes_have_different_candidates() -> None:
    order = turns(Plan.of({"a": R8, "b": R6, "c": R16}), CANDIDATES)
    assert set(order) == {("a", R6), ("a", R16), ("b", R8), ("b", R16)}


@pytest.mark.parametrize(("middle", "budget"), [(6, 0.05), (28, 0.05), (28, 0.1), (6, 0.5), (1, 0.05)])
def test_the_budget_is_spent_and_never_exceeded(middle: int, budget: float) -> None:
    rotation, plan = ShadowRotation(), _plan(middle)
    spent = 0
    for forward in range(1, 201):
        spent += sum(map(price, rotation.choose(plan, CANDIDATES, budget).values()))
        # a run at 8 bits is 1 / blocks of a forward; what is left over is less than one run at 16 bits
        assert budget * len(plan) * forward - 2 - 1e-6 < spent <= budget * len(plan) * forward + 1e-6


def test_sixteen_bits_count_twice() -> None:
    assert [price(recipe) for recipe in (R8, R6, R4, R16)] == [1, 1, 1, 2]
    only_16 = sum(len(ShadowRotation().choose(_plan(28), (R16,), 0.1)) for _ in range(10))
    only_6 = sum(len(ShadowRotation().choose(_plan(28), (R6,), 0.1)) for _ in range(10))
    assert (only_16, only_6) == (10, 30)


def test_turns_go_round_and_go_on_from_forward_to_forward() -> None:
    rotation, plan = ShadowRotation(), _plan(6)
    counts = Counter(item for _ in range(90) for item in rotation.choose(plan, CANDIDATES, 0.05).items())
    assert sum(counts.values()) == 24  # 8 blocks, 5 %: two runs, one of them at 16 bits, in 7.5 forwards
    assert set(counts.values()) == {2}


def test_no_budget_no_candidate_and_no_measured_block_mean_no_runs() -> None:
    rotation = ShadowRotation()
    assert rotation.choose(_plan(6), CANDIDATES, 0.0) == {}
    assert rotation.choose(_plan(6), (R8,), 1.0) == {}
    assert rotation.choose(_plan(6, R16), CANDIDATES, 1.0) == {}
    # nothing was saved up meanwhile, and no block runs twice
    assert len(rotation.choose(_plan(6), (R8, R6), 1.0)) == 6


def test_a_change_of_plan_keeps_the_turn_in_range() -> None:
    rotation = ShadowRotation()
    for plan in (_plan(28), _plan(3), _plan(28, R4)):
        assert rotation.choose(plan, CANDIDATES, 0.5)


@pytest.mark.parametrize("budget", [-0.1, 1.5, float("nan")])
def test_a_budget_is_a_share(budget: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        ShadowRotation().choose(_plan(6), CANDIDATES, budget)

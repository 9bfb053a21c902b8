from collections import Counter

import pytest
import torch

from tadp import processor
from tadp.precision import L4, L6, L8, Plan, Recipe
from tadp.runtime.shadows import ShadowRotation, price_at_16, turns, worth_trying

R8, R6, R4, R16 = Recipe(L8), Recipe(L6), Recipe(L4), Recipe()
CANDIDATES = (R8, R6, R16)


def _plan(blocks: int, recipe: Recipe = R8) -> Plan:
    return Plan.of({f"blocks.{index}": recipe for index in range(blocks)})


def test_every_block_has_a_turn_at_every_other_recipe() -> None:
    order = turns(_plan(5), CANDIDATES)
    assert len(order) == len(set(order)) == 10
    assert {block for block, _ in order} == {f"blocks.{index}" for index in range(5)}
    assert {recipe for _, recipe in order} == {R6, R16}
    assert {recipe for _, recipe in order[:2]} == {R6, R16}  # neighbours differ


def test_blocks_that_run_at_different_recipes_have_different_candidates() -> None:
    order = turns(Plan.of({"a": R8, "b": R6, "c": R16}), CANDIDATES)
    assert set(order) == {("a", R6), ("a", R16), ("b", R8), ("b", R16), ("c", R8), ("c", R6)}


@pytest.mark.parametrize("price", [2, 10])
@pytest.mark.parametrize(("blocks", "budget"), [(8, 0.05), (30, 0.05), (30, 0.1), (8, 0.5), (3, 0.05)])
def test_the_budget_is_spent_and_never_exceeded(blocks: int, budget: float, price: int) -> None:
    rotation, plan = ShadowRotation(price), _plan(blocks)
    spent = 0
    for forward in range(1, 201):
        chosen = rotation.choose(plan, CANDIDATES, budget).values()
        spent += sum(price if recipe == R16 else 1 for recipe in chosen)
        # a run at 8 bits is 1 / blocks of a forward; what is left over is less than one run at 16 bits
        assert budget * len(plan) * forward - price - 1e-6 < spent <= budget * len(plan) * forward + 1e-6


@pytest.mark.parametrize(("recipe", "expected"), [(R6, 30), (R4, 30), (R16, 10)])
def test_sixteen_bits_have_a_price(recipe: Recipe, expected: int) -> None:
    rotation = ShadowRotation(3)
    assert sum(len(rotation.choose(_plan(30), (recipe,), 0.1)) for _ in range(10)) == expected


@pytest.mark.parametrize(("cuda", "bfloat16", "price"), [(True, False, 2), (False, True, 2), (False, False, 10)])
def test_sixteen_bits_cost_more_without_instructions_for_them(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, bfloat16: bool, price: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda: bfloat16)
    assert price_at_16() == price


def test_turns_go_round_and_go_on_from_forward_to_forward() -> None:
    rotation, plan = ShadowRotation(2), _plan(8)
    counts = Counter(item for _ in range(90) for item in rotation.choose(plan, CANDIDATES, 0.05).items())
    assert sum(counts.values()) == 24  # 8 blocks, 5 %: two runs, one of them at 16 bits, in 7.5 forwards
    assert set(counts.values()) == {1, 2}


def test_no_budget_and_no_candidate_mean_no_runs() -> None:
    rotation = ShadowRotation(2)
    assert rotation.choose(_plan(6), CANDIDATES, 0.0) == {}
    assert rotation.choose(_plan(6), (R8,), 1.0) == {}
    assert rotation.choose(_plan(6, R16), (R16,), 1.0) == {}
    # nothing was saved up meanwhile, and no block runs twice
    assert len(rotation.choose(_plan(6), (R8, R6), 1.0)) == 6


def test_a_change_of_plan_keeps_the_turn_in_range() -> None:
    rotation = ShadowRotation(2)
    for plan in (_plan(30), _plan(5), _plan(30, R4)):
        assert rotation.choose(plan, CANDIDATES, 0.5)


@pytest.mark.parametrize("budget", [-0.1, 1.5, float("nan")])
def test_a_budget_is_a_share(budget: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        ShadowRotation(2).choose(_plan(6), CANDIDATES, budget)


def test_weights_at_16_bits_are_not_copied_to_a_gpu_for_a_shadow_run() -> None:
    recipes = tuple(map(Recipe.parse, ("16", "8", "8+attention:8", "8+ffn.down:16")))
    assert worth_trying(recipes, None) == worth_trying(recipes, torch.device("cpu")) == recipes
    assert worth_trying(recipes, torch.device("cuda", 1)) == recipes[1:3]

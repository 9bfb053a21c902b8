import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.planning.solver import GAP, Limit, choose

amount = st.floats(0.0, 100.0)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[float]], list[Limit]]:
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))

    def table() -> list[list[float]]:
        return [draw(st.lists(amount, min_size=size, max_size=size)) for size in sizes]

    limits = [Limit(table(), draw(st.floats(0.0, 300.0))) for _ in range(draw(st.integers(0, 2)))]
    return table(), limits


def _total(amounts: list[list[float]], picks: tuple[int, ...]) -> float:
    return sum(group[pick] for group, pick in zip(amounts, picks, strict=True))


def _best(costs: list[list[float]], limits: list[Limit]) -> float | None:
    """The least cost by trying everything."""
    found = [
        _total(costs, picks)
        for picks in itertools.product(*(range(len(group)) for group in costs))
        if all(_total(limit.amounts, picks) <= limit.most for limit in limits)
    ]
    return min(found, default=None)


@settings(deadline=None)
@given(problems())
def test_solutions_match_brute_force(problem: tuple[list[list[float]], list[Limit]]) -> None:
    costs, limits = problem
    scale = 1e-6  # what HiGHS lets a limit be exceeded by, relative to the largest number in it
    tight, loose = (
        _best(costs, [Limit(limit.amounts, limit.most + sign * 2e2 * scale) for limit in limits]) for sign in (-1, 1)
    )
    picks = choose(costs, limits)
    if picks is None:
        assert tight is None
        return
    assert loose is not None
    total = _total(costs, picks)
    assert all(_total(limit.amounts, picks) <= limit.most + 2e2 * scale for limit in limits)
    assert total >= loose - 1e-9
    assert tight is None or total <= tight * (1 + GAP) / (1 - GAP) + 1e-3


def test_no_groups_are_no_choices() -> None:
    assert choose([]) == ()


def test_impossible_limits_have_no_solution() -> None:
    assert choose([[1.0, 2.0]], [Limit([[5.0, 6.0]], 4.0)]) is None


def test_groups_without_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="group 1"):
        choose([[1.0], []])


def test_a_real_model_is_solved_fast() -> None:
    """40 blocks in 4 stages with 8 recipes: the limits are those that a plan must keep while a clip is generated."""
    costs = [[(block * 7 + recipe * 13) % 17 / 17 for recipe in range(8)] for block in range(160)]
    seconds = [[(block * 5 + recipe * 11) % 19 / 19 for recipe in range(8)] for block in range(160)]
    picks = choose(costs, [Limit(seconds, 30.0)])
    assert picks is not None
    assert _total(seconds, picks) <= 30.0 + 1e-4

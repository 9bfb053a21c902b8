"""Blocks that add what they added before, without a compiled model."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from tadp.errors import PrecisionFallbackWarning
from tadp.precision import L8, Plan, Recipe, Reuse
from tadp.runtime.clock import Tick
from tadp.runtime.reuse import ResidualStore, ReuseFailed

ALWAYS = Reuse(float("inf"))
TOKENS = torch.arange(12.0).reshape(1, 3, 4)


class _Model:
    """Blocks that each add a number that falls with the noise, and count how often they run."""

    def __init__(self, blocks: int = 3, reuse: Reuse | Sequence[Reuse | None] = ALWAYS, **options: Any) -> None:
        self.names = tuple(f"blocks.{index}" for index in range(blocks))
        each = [reuse] * blocks if isinstance(reuse, Reuse) else reuse
        self.plan = Plan.of((name, Recipe(L8, reuse=own)) for name, own in zip(self.names, each, strict=True))
        self.store = ResidualStore(**options)
        self.ran: list[str] = []
        self.noise, self.step = math.nan, 0
        self.between: Callable[[torch.Tensor], torch.Tensor] = lambda tokens: tokens
        self.adds: Callable[[float], float] = lambda noise: noise

    def _tick(self, noise: float, branch: str) -> Tick:
        if noise != self.noise:
            self.noise, self.step = noise, self.step + 1
        return Tick(1, self.step, branch, noise)

    def forward(self, noise: float, branch: str = "cond", measuring: bool = False) -> torch.Tensor:
        self.ran = []
        self.store.decide(self.plan, self._tick(noise, branch), noise, 0.1, measuring)
        tokens = TOKENS + noise
        for name in self.names:

            def run(given: torch.Tensor, name: str = name) -> torch.Tensor:
                self.ran.append(name)
                return given + self.adds(noise)

            tokens = self.between(self.store.call(name, run, (tokens,), {}))
        self.store.finish()
        return tokens

    def measure(self) -> None:
        """Three steps that keep residuals and reuse none, as the steps of a probe."""
        for noise in (1.0, 0.9, 0.8):
            self.forward(noise, measuring=True)

    def truth(self, noise: float) -> torch.Tensor:
        return TOKENS + noise + len(self.names) * self.adds(noise)


def test_neighbours_are_one_span_that_runs_or_adds_its_residual() -> None:
    model = _Model()
    model.measure()
    assert len(model.ran) == 3
    foretold = model.forward(0.7)
    assert model.ran == []
    torch.testing.assert_close(foretold, model.truth(0.7), atol=1e-5, rtol=1e-5)
    model.forward(0.6)
    assert len(model.ran) == 3, "no more than one step in a row"
    assert model.store.bytes == 2 * TOKENS.nbytes, "one residual of the span, at two noises"


def test_a_model_that_does_something_in_between_has_spans_of_one_block() -> None:
    model = _Model()
    model.between = lambda tokens: tokens * 1.0
    model.measure()
    assert model.store.bytes == 3 * 2 * TOKENS.nbytes
    torch.testing.assert_close(model.forward(0.7), model.truth(0.7), atol=1e-5, rtol=1e-5)
    assert model.ran == []


def test_blocks_without_leave_run_between_reused_ones() -> None:
    model = _Model(reuse=(ALWAYS, None, ALWAYS))
    model.measure()
    torch.testing.assert_close(model.forward(0.7), model.truth(0.7), atol=1e-5, rtol=1e-5)
    assert model.ran == ["blocks.1"]


def test_other_terms_begin_another_span() -> None:
    model = _Model(2, (ALWAYS, Reuse(0.0)))
    model.adds = lambda noise: noise**2
    model.measure()
    model.forward(0.7)
    assert model.ran == ["blocks.1"]


def test_longest_and_the_accumulated_error_end_reuse() -> None:
    model = _Model(reuse=Reuse(float("inf"), longest=2))
    runs = []
    for step in range(8):
        model.forward(1 - step / 10)
        runs.append(len(model.ran))
    assert runs == [3, 3, 0, 0, 3, 0, 0, 3]


def test_change_that_was_not_foretold_ends_reuse_until_it_is_over() -> None:
    model = _Model(reuse=Reuse(0.003, longest=1))
    model.adds = lambda noise: 1.0 if noise > 0.55 else 3.0
    runs = []
    for step in range(10):
        model.forward(1 - step / 10)
        runs.append(len(model.ran) > 0)
    # Still at first: reused in every second step. The jump at 0.5 is met by a run, and makes the next one run as well.
    assert runs[:5] == [True, True, False, True, False]
    assert runs[5:7] == [True, True]
    assert not all(runs[7:])


def test_a_bound_of_zero_keeps_and_never_reuses() -> None:
    model = _Model(reuse=Reuse(0.0))
    model.adds = lambda noise: noise**2
    for step in range(5):
        model.forward(1 - step / 10)
        assert len(model.ran) == 3
    model.plan = Plan.of((name, Recipe(L8, reuse=ALWAYS)) for name in model.names)
    model.forward(0.45)
    assert model.ran == [], "what was kept before is there at once"


def test_a_plan_without_leave_lets_go_of_what_was_kept() -> None:
    model = _Model(reuse=Reuse(0.0))
    model.measure()
    kept = model.store.bytes
    model.plan = Plan.of((name, Recipe(L8)) for name in model.names)
    model.forward(0.7)
    assert model.store.bytes == 0 < kept == model.store.peak


def test_branches_have_residuals_of_their_own_and_are_reused_in_the_same_steps() -> None:
    model = _Model()
    for noise in (1.0, 0.9, 0.8):
        for branch in ("cond", "uncond"):
            model.forward(noise, branch, measuring=True)
    assert model.store.bytes == 2 * 2 * TOKENS.nbytes
    for branch in ("cond", "uncond"):
        torch.testing.assert_close(model.forward(0.7, branch), model.truth(0.7), atol=1e-5, rtol=1e-5)
        assert model.ran == []


def test_a_branch_that_changes_makes_both_run() -> None:
    """Guidance amplifies what one branch gets wrong and the other does not."""
    model = _Model(reuse=Reuse(0.01))
    for step, noise in enumerate((1.0, 0.9, 0.8, 0.7)):
        for branch in ("cond", "uncond"):
            model.adds = lambda noise, jump=branch == "uncond" and step % 2: 1.0 + 5 * jump
            model.forward(noise, branch, measuring=step < 3)
            assert len(model.ran) == 3, (noise, branch)


def test_a_branch_that_runs_no_more_does_not_count() -> None:
    """Some pipelines leave guidance out in part of the steps."""
    model = _Model()
    model.forward(1.0, "uncond", measuring=True)
    model.measure()
    model.forward(0.7)
    assert model.ran == []


def test_measured_steps_run_and_residuals_can_be_dropped() -> None:
    model = _Model()
    model.measure()
    model.forward(0.7, measuring=True)
    assert len(model.ran) == 3
    model.forward(0.6, branch="uncond", measuring=True)
    model.store.drop("uncond")
    assert model.store.bytes == 2 * TOKENS.nbytes
    model.store.clear()
    assert model.store.bytes == 0


def test_memory_is_bounded_and_what_has_no_room_says_so() -> None:
    model = _Model(limit=lambda: TOKENS.nbytes)
    with pytest.warns(PrecisionFallbackWarning, match="would take more than the 48 bytes"):
        model.measure()
    assert model.store.bytes == 0
    assert "may be kept" in model.store.refused["blocks.1"]
    model.forward(0.7)
    assert len(model.ran) == 3


def test_a_block_without_streams_runs_and_says_so() -> None:
    store = ResidualStore()
    plan = Plan.of({"blocks.0": Recipe(L8, reuse=ALWAYS)})

    def run(step: int) -> torch.Size:
        store.decide(plan, Tick(1, step + 1, "cond", 0.0), 1 - step / 10, 0.1, False)
        shape: torch.Size = store.call("blocks.0", lambda given: given.sum(-1), (TOKENS,), {}).shape
        store.finish()
        return shape

    with pytest.warns(PrecisionFallbackWarning, match=r"blocks\.0 is never reused: it returns \(1, 3\)"):
        shapes = [run(step) for step in range(4)]
    assert shapes == [(1, 3)] * 4


def test_a_call_that_does_not_fit_is_given_up_as_a_whole() -> None:
    model = _Model()
    model.measure()
    model.store.decide(model.plan, Tick(1, 4, "cond", 0.7), 0.7, 0.1, False)
    with (
        pytest.warns(PrecisionFallbackWarning, match="called differently"),
        pytest.raises(ReuseFailed),
    ):
        model.store.call("blocks.0", lambda tokens: tokens, (), {"tokens": TOKENS})


def _write_into(given: torch.Tensor) -> torch.Tensor:
    given += 1
    return given


def test_a_block_that_writes_into_its_input_is_never_reused() -> None:
    """Its residual would be nothing, and reusing it would leave it out."""
    store = ResidualStore()
    plan = Plan.of({"blocks.0": Recipe(L8, reuse=ALWAYS)})
    tokens = TOKENS.clone()

    def run(step: int) -> None:
        assert not store.decide(plan, Tick(1, step + 1, "cond", 0.0), 1 - step / 10, 0.1, False)
        store.call("blocks.0", _write_into, (tokens,), {})
        store.finish()

    with pytest.warns(PrecisionFallbackWarning, match="writes into what it is given"):
        run(0)
    for step in (1, 2, 3, 4):
        run(step)
    torch.testing.assert_close(tokens, TOKENS + 5)


def test_results_that_the_model_writes_into_are_not_reused() -> None:
    model = _Model(2)
    model.between = lambda tokens: tokens.add_(10.0)

    def generate() -> None:
        for noise in (1.0, 0.9, 0.8, 0.7, 0.6):
            torch.testing.assert_close(model.forward(noise), model.truth(noise) + 20)
            assert len(model.ran) == 2

    with pytest.warns(PrecisionFallbackWarning, match="is written to before the next block"):
        generate()
    assert model.store.bytes == 0


def test_inference_mode_has_no_versions_and_works() -> None:
    with torch.inference_mode():
        model = _Model()
        model.measure()
        torch.testing.assert_close(model.forward(0.7), model.truth(0.7), atol=1e-5, rtol=1e-5)
    assert model.ran == []


def test_two_streams_that_swap_places_stay_apart() -> None:
    store = ResidualStore()
    plan = Plan.of((name, Recipe(L8, reuse=ALWAYS)) for name in ("a.0", "a.1"))
    text = torch.ones(1, 2, 4)
    ran = 0

    def block(
        noise: float, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal ran
        ran += 1
        return encoder_hidden_states - noise, hidden_states + noise

    def forward(noise: float) -> tuple[torch.Tensor, torch.Tensor]:
        store.decide(plan, Tick(1, round(noise * 10), "cond", noise), noise, 0.1, measuring=noise > 0.75)
        tokens, words = TOKENS, text
        for name in ("a.0", "a.1"):
            kwargs = {"hidden_states": tokens, "encoder_hidden_states": words}
            words, tokens = store.call(name, functools.partial(block, noise), (), kwargs)
        store.finish()
        return tokens, words

    for noise in (1.0, 0.9, 0.8):
        forward(noise)
    tokens, words = forward(0.7)
    assert ran == 6
    torch.testing.assert_close(tokens, TOKENS + 1.4)
    torch.testing.assert_close(words, text - 1.4)

"""Foretelling the branch without the prompt."""

import pytest
import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput

from tadp.precision import Reuse
from tadp.runtime.clock import Tick
from tadp.runtime.guidance import GuidanceStore, with_prediction

LEAVE = Reuse(float("inf"))
CLIP = torch.arange(24.0).reshape(1, 2, 3, 2, 2)


def _run(store: GuidanceStore, step: int, leave: Reuse = LEAVE, scale: float | None = None) -> torch.Tensor | None:
    """Both branches of a step; what the second was foretold to be, where it was. The prompt adds step / 10."""
    noise = 1 - step / 10
    conditional = CLIP + step
    store.take(Tick(1, step, "cond", noise), noise, (conditional,), scale, ran=True)
    tick = Tick(1, step, "uncond", noise)
    found = store.foretell(leave, tick, noise, 0.1)
    if found is None:
        store.take(tick, noise, (conditional - step / 10,), scale, ran=True)
        return None
    (foretold,) = found
    assert isinstance(foretold, torch.Tensor)
    return foretold


def test_the_branch_without_the_prompt_is_the_other_one_less_what_the_prompt_adds() -> None:
    store = GuidanceStore()
    for step in (1, 2, 3):
        assert _run(store, step, Reuse(0.0)) is None
    found = _run(store, 4)
    assert found is not None
    torch.testing.assert_close(found, CLIP + 4 - 0.4)
    assert _run(store, 5) is None, "no more than one step in a row"
    assert store.bytes == 2 * CLIP.nbytes
    store.clear()
    assert store.bytes == 0
    assert _run(store, 6) is None


def test_an_error_counts_by_the_guidance_scale() -> None:
    """The same change of the difference is fine where guidance is weak, and too much where it is strong."""
    reused = {}
    for scale in (1.5, 8.0):
        store = GuidanceStore()
        leave = Reuse(0.002, extrapolation="constant")  # type: ignore[arg-type]
        found = [_run(store, step, leave, scale) is not None for step in range(1, 5)]
        reused[scale] = any(found)
    assert reused == {1.5: True, 8.0: False}


def test_nothing_is_foretold_without_leave_without_a_pair_or_for_another_branch() -> None:
    store = GuidanceStore()
    for step in (1, 2, 3):
        _run(store, step, Reuse(0.0))
    store.take(Tick(1, 4, "cond", 0.6), 0.6, (CLIP,), None, ran=True)
    assert store.foretell(None, Tick(1, 4, "uncond", 0.6), 0.6, 0.1) is None
    assert store.foretell(LEAVE, Tick(1, 4, "cond", 0.6), 0.6, 0.1) is None
    assert store.foretell(LEAVE, Tick(1, 5, "uncond", 0.5), 0.5, 0.1) is None
    assert store.foretell(LEAVE, Tick(1, 4, "uncond", 0.6), 0.6, 0.1) is not None


def test_what_was_not_computed_is_not_kept() -> None:
    store = GuidanceStore()
    for step in (1, 2, 3):
        noise = 1 - step / 10
        store.take(Tick(1, step, "cond", noise), noise, (CLIP,), None, ran=step != 2)
        store.take(Tick(1, step, "uncond", noise), noise, (CLIP - 1,), None, ran=True)
    assert store.bytes == 2 * CLIP.nbytes
    store.take(Tick(1, 4, "cond", 0.6), 0.6, "no prediction", None, ran=True)


@pytest.mark.parametrize(
    "result",
    [CLIP, (CLIP, "more"), [CLIP], Transformer2DModelOutput(sample=CLIP)],
    ids=["tensor", "tuple", "list", "output"],
)
def test_results_keep_their_form(result: object) -> None:
    changed = with_prediction(result, CLIP + 1)
    assert type(changed) is type(result)
    first = changed if isinstance(changed, torch.Tensor) else changed[0]
    assert torch.equal(first, CLIP + 1)
    if isinstance(changed, tuple) and len(changed) > 1:
        assert changed[1] == "more"

"""Reuse in a compiled model: from a plan to blocks that are not called."""

import pytest
import torch
from diffusers import WanTransformer3DModel

from tadp.errors import PrecisionFallbackWarning
from tadp.policy import Staged, Static, parse
from tadp.policy.fixed import Fixed
from tadp.precision import L0, L8, Plan, Recipe, Reuse
from tests.models import relative_error, tiny_inputs

pytestmark = pytest.mark.compiles

NOISES = (1000.0, 900.0, 800.0, 700.0, 600.0, 500.0)


def _generate(model: WanTransformer3DModel, policy: str, num_steps: int | None = None) -> list[torch.Tensor]:
    """The predictions of a generation whose input hardly changes."""
    model.tadp.use(policy)
    model.tadp.begin(num_steps=num_steps)
    return [model(**tiny_inputs(timestep=noise))[0].clone() for noise in NOISES]


def _share_run(model: WanTransformer3DModel) -> list[float]:
    records = model.tadp.history[-len(NOISES) :]
    return [sum(recipe != Recipe(L0) for _, recipe in record.plan) / len(record.plan) for record in records]


def test_blocks_are_reused_where_leave_is_given_and_compile_nothing(compiled: WanTransformer3DModel) -> None:
    reference = _generate(compiled, "static:8")
    assert _share_run(compiled) == [1.0] * len(NOISES)
    before = dict(torch._dynamo.utils.counters["stats"])
    kept = "staged:8+reuse:0,0.75:8+reuse:inf"
    ours = _generate(compiled, kept)
    assert dict(torch._dynamo.utils.counters["stats"]) == before
    assert _share_run(compiled) == [1, 1, 1, 0, 1, 0]
    for step, (own, full) in enumerate(zip(ours, reference, strict=True)):
        expected = 0.2 if _share_run(compiled)[step] == 0 else 1e-6
        assert relative_error(own, full) <= expected, step


def test_a_bound_is_kept_and_blocks_run_where_it_would_be_passed(compiled: WanTransformer3DModel) -> None:
    _generate(compiled, "static:8+reuse:1e-09")
    assert _share_run(compiled) == [1.0] * len(NOISES)


def test_single_blocks_can_be_reused(compiled: WanTransformer3DModel) -> None:
    first, second, *others = compiled.tadp.blocks
    recipes = {first: Recipe(L8), second: Recipe(L8, reuse=Reuse(float("inf"))), **dict.fromkeys(others, Recipe(L8))}
    compiled.tadp.use(Fixed(Plan.of(recipes)))
    compiled.tadp.begin()
    for noise in NOISES[:4]:
        compiled(**tiny_inputs(timestep=noise))
    plan = compiled.tadp.history[-1].plan
    assert [str(recipe) for _, recipe in plan] in (["8", "0", *["8"] * len(others)], ["8", "8", *["8"] * len(others)])
    assert any(record.plan[second] == Recipe(L0) for record in compiled.tadp.history[-4:])


def test_residuals_are_counted_and_go_with_the_generation(compiled: WanTransformer3DModel) -> None:
    _generate(compiled, "static:8+reuse:0")
    tokens = 3 * 8 * 8 * 64 * 2  # of the stream, in bytes of bfloat16
    assert compiled.tadp.residuals.bytes == compiled.tadp.kept_bytes == 2 * tokens
    _generate(compiled, "static:8+reuse:0", num_steps=len(NOISES))
    assert compiled.tadp.residuals.bytes == 0
    assert compiled.tadp.kept_bytes == 2 * tokens
    _generate(compiled, "static:8")
    assert compiled.tadp.kept_bytes == 0


def test_explain_and_records_show_it(compiled: WanTransformer3DModel) -> None:
    _generate(compiled, "static:8+reuse:inf")
    assert {row.reuse for row in compiled.tadp.layers() if row.piece in compiled.tadp.blocks} == {"reuse:inf"}
    assert "reuse:inf" in str(compiled.tadp.explain())
    assert compiled.tadp.plan[compiled.tadp.blocks[0]].reuse == Reuse(float("inf"))


def test_explain_says_why_a_block_is_never_reused(compiled: WanTransformer3DModel) -> None:
    compiled.tadp.use("static:8+reuse:inf")
    compiled(**tiny_inputs())
    store, (first, *_) = compiled.tadp.residuals, compiled.tadp.blocks
    with pytest.warns(PrecisionFallbackWarning, match=f"{first} is never reused"):
        store._refuse(first, "it has to be seen")
    try:
        assert {row.reuse for row in compiled.tadp.layers() if row.piece == first} == {"never: it has to be seen"}
    finally:
        store._refused.clear()


def test_measured_steps_run(compiled: WanTransformer3DModel) -> None:
    _generate(compiled, "static:8+reuse:inf,probe=6")
    assert _share_run(compiled) == [1.0] * len(NOISES)


@pytest.mark.parametrize(
    "name", ["static:8+reuse:0.01", "static:8+attention+reuse:0.02+longest:2", "staged:8,0.5:8+reuse:0.01"]
)
def test_policies_with_reuse_are_read_back(name: str) -> None:
    policy = parse(name)
    assert parse(str(policy)) == policy
    assert isinstance(policy, (Static, Staged))


def test_level_0_is_no_level_to_run_at(compiled: WanTransformer3DModel) -> None:
    with pytest.raises(ValueError, match="nothing can run at level 0"):
        compiled.tadp.use("static:0")
    with pytest.raises(ValueError, match="nothing can run at level 0"):
        compiled.tadp.use(Fixed(Plan.of(dict.fromkeys(compiled.tadp.blocks, Recipe(L0)))))
    assert str(compiled.tadp.policy) == "static:16"

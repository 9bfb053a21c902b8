"""Compiled models with a calibration: budgets, their stages, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch._dynamo.utils import counters

import tadp
from tadp.files.automatic import cached
from tadp.files.calibration import save
from tadp.files.fingerprint import calibration_key, fingerprint
from tadp.planning.calibration import Calibration
from tadp.policy import Budget, Complexity, Fixed, Staged, Static
from tadp.precision import L8, Plan, Recipe
from tests.calibrations import FOUND
from tests.models import tiny_inputs, tiny_transformer
from tests.policy.costs_of import STAGES, at, made_up_costs

pytestmark = pytest.mark.compiles

BLOCKS = tuple(f"blocks.{index}" for index in range(4))
ALLOWED = (Recipe(), at(L8), at(L8, attention=True))
BUDGET = Budget(latency=7.2, recipes_allowed=ALLOWED)


def _calibration(model: torch.nn.Module) -> Calibration:
    return replace(FOUND, key=calibration_key({"transformer": fingerprint(model)}, {}), costs=made_up_costs(BLOCKS))


@pytest.fixture(scope="module")
def _model() -> WanTransformer3DModel:
    torch._dynamo.reset()
    plain = tiny_transformer()
    return tadp.compile(plain, policy=BUDGET, calibration=_calibration(plain))


@pytest.fixture
def model(_model: WanTransformer3DModel) -> WanTransformer3DModel:
    """One model for all tests; each finds it under its first policy, before a generation."""
    _model.tadp.use(BUDGET)
    _model.tadp.begin()
    return _model


def _generate(
    model: WanTransformer3DModel, prompts: str | list[str], timesteps: tuple[float, ...], batch: int = 1
) -> None:
    model.tadp.begin(prompts)
    for timestep in timesteps:
        for _ in range(2):  # both guidance branches
            model(**tiny_inputs(batch=batch, timestep=timestep))


def test_a_budget_changes_its_plan_from_stage_to_stage_without_compiling(model: WanTransformer3DModel) -> None:
    timesteps = (1000.0, 960.0, 900.0, 700.0, 300.0)
    _generate(model, "a cat", timesteps)
    graphs = counters["stats"]["unique_graphs"]
    _generate(model, "a red circle bounces, then three stars orbit it", timesteps)
    assert counters["stats"]["unique_graphs"] == graphs
    records = model.tadp.history[-10:]
    assert [record.phase for record in records] == ["probe"] * 4 + ["run"] * 6
    budget = model.tadp.policy
    for record, stage in zip(records[4:], (1, 1, 2, 2, 3, 3), strict=True):
        assert record.plan == budget.schedule(record.score)[stage]
        assert record.plan["blocks.0"] == record.plan["blocks.3"] == Recipe()
    assert len({record.plan for record in records}) > 1
    assert [records[index].plan for index in (4, 6, 8)] == [records[index].plan for index in (5, 7, 9)]


def test_plans_are_explained(model: WanTransformer3DModel) -> None:
    _generate(model, "a cat", (1000.0, 960.0, 900.0))
    why = {layer.piece: layer.why for layer in model.tadp.layers()}
    assert why["blocks.0"] == "first or last block"
    assert "of its time for" in str(why["blocks.1"])


def test_a_batch_counts_by_its_most_complex_prompt(model: WanTransformer3DModel) -> None:
    simple, busy = (
        "a cat",
        "a red circle bounces over a blue box, then three stars orbit it and explode into small squares",
    )
    model.tadp.use(Static(L8, probe_steps=1))  # a score, and little to compile for the batch
    scores = []
    for prompts in ([simple, simple], [simple, busy], [busy, busy]):
        _generate(model, prompts, (1000.0, 960.0, 900.0), batch=2)
        assert model.tadp.score is not None
        scores.append(model.tadp.score)
    assert scores[0].text < scores[1].text == scores[2].text  # type: ignore[operator]


def test_policies_used_later_are_calibrated_as_well(model: WanTransformer3DModel) -> None:
    model.tadp.use("complexity")
    assert model.tadp.policy.sensitive == ("blocks.2", "blocks.1")
    model.tadp.use("static:8")
    assert model.tadp.calibration is not None


def test_plans_and_stages_of_ones_own(model: WanTransformer3DModel) -> None:
    model.tadp.use(Fixed(Plan.of({"blocks.1": at(L8)})))
    model(**tiny_inputs())
    assert [str(recipe) for _, recipe in model.tadp.plan] == ["16", "8", "16", "16"]
    model.tadp.use(Staged((Recipe(), at(L8)), STAGES[1:2]))
    _generate(model, "a cat", (1000.0, 700.0))
    assert [str(record.plan["blocks.0"]) for record in model.tadp.history[-4:]] == ["16", "16", "8", "8"]


def test_calibrations_of_other_weights_are_refused_and_nothing_is_packed(model: WanTransformer3DModel) -> None:
    other = tiny_transformer()
    with torch.no_grad():
        other.blocks[0].ffn.net[2].weight.add_(0.1)
    with pytest.raises(ValueError, match="another model"):
        tadp.compile(other, policy="complexity", calibration=_calibration(tiny_transformer()))
    assert type(other.blocks[0].ffn.net[2].weight) is torch.nn.Parameter
    with pytest.raises(ValueError, match="another model"):
        tadp.compile(model, policy="complexity", calibration=_calibration(other))


def test_a_budget_without_a_calibration_is_refused_and_nothing_is_packed() -> None:
    plain = tiny_transformer()
    with pytest.raises(ValueError, match="tadp calibrate"):
        tadp.compile(plain, policy="budget:quality=40")
    assert type(plain.blocks[0].ffn.net[2].weight) is torch.nn.Parameter


def test_a_calibration_is_read_from_its_file(tmp_path: Path) -> None:
    plain = tiny_transformer()
    save(_calibration(plain), tmp_path / "calibration.json")
    compiled = tadp.compile(plain, policy="complexity", calibration=tmp_path / "calibration.json", precompile=False)
    assert compiled.tadp.policy.ranges == FOUND.ranges
    with pytest.raises(ValueError, match="there is no calibration"):
        tadp.compile(tiny_transformer(), calibration=tmp_path / "missing.json")


def test_a_calibration_beside_the_weights_is_used_without_being_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TADP_CACHE_DIR", str(tmp_path / "cache"))
    tiny_transformer().save_pretrained(tmp_path / "model")

    def loaded() -> WanTransformer3DModel:
        return WanTransformer3DModel.from_pretrained(tmp_path / "model", torch_dtype=torch.bfloat16)

    assert tadp.compile(loaded()).tadp.calibration is None
    known = _calibration(loaded())
    save(known, tmp_path / "model" / "tadp-calibration.json")
    found = tadp.compile(loaded(), policy=BUDGET)
    assert found.tadp.calibration == known
    assert found.tadp.policy == BUDGET.calibrated(known)
    assert tadp.compile(found, policy="static:8").tadp.calibration == known  # compiled already: keeps what it has
    assert tadp.compile(loaded(), calibration=None).tadp.calibration is None
    other = loaded()
    with torch.no_grad():
        other.blocks[0].ffn.net[2].weight.add_(0.1)
    assert tadp.compile(other).tadp.calibration is None
    save(_calibration(tiny_transformer()), cached(fingerprint(tiny_transformer())))
    assert tadp.compile(tiny_transformer()).tadp.calibration is not None


def test_two_transformers_have_calibrations_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TADP_CACHE_DIR", str(tmp_path))
    first, second = tiny_transformer(), tiny_transformer()
    with torch.no_grad():
        second.blocks[0].ffn.net[2].weight.add_(0.1)
    for model, samples in ((first, 8), (second, 9)):
        save(replace(_calibration(model), samples=samples), cached(fingerprint(model)))

    class Pipeline:
        components: ClassVar = {"transformer": first, "transformer_2": second}

    compiled = tadp.compile(Pipeline(), policy="static:8")
    assert first.tadp.calibration.samples == 8
    assert second.tadp.calibration.samples == 9
    compiled.tadp.use("complexity")
    assert second.tadp.policy == Complexity().calibrated(second.tadp.calibration)

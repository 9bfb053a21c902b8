"""What compiled models measure while they are probed, and what is made of it."""

import warnings
from dataclasses import dataclass

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch._dynamo.utils import counters

import tadp
from tadp.policy import Seen, Static
from tadp.precision import L6, L8, L16, Level, Plan, Recipe
from tests.breaking import Breaking, BreakingBlock
from tests.models import relative_error, tiny_inputs

pytestmark = pytest.mark.compiles


def test_a_generation_is_probed_scored_and_planned(compiled: WanTransformer3DModel) -> None:
    compiled.tadp.use("complexity")
    compiled.tadp.begin(prompt="a red circle stands still on a black background")
    first = len(compiled.tadp.history)
    for timestep in (900.0, 600.0, 300.0):
        for _ in ("cond", "uncond"):
            compiled(**tiny_inputs(timestep=timestep))
    records = compiled.tadp.history[first:]
    assert [(record.step, record.branch) for record in records] == [
        (step, branch) for step in (1, 2, 3) for branch in ("cond", "uncond")
    ]
    assert [record.phase for record in records] == ["probe"] * 4 + ["run"] * 2
    assert {recipe for _, recipe in records[0].plan} == {Recipe(L16)}
    assert records[-1].plan["blocks.1"].default == L8
    assert records[-1].plan["blocks.3"].default == L16
    assert [block.piece for block in records[0].signals.blocks] == [f"blocks.{index}" for index in range(4)]
    block = records[0].signals.blocks[1]
    assert 0 < block["entropy"][0] <= 1
    assert block["relative_change"][0] > 0
    assert len(block.by_layer("kurtosis")) == 7
    assert all(layer.startswith("blocks.1.") for layer in block.by_layer("kurtosis"))
    assert all(layer.startswith("blocks.2.") for layer in records[0].signals.blocks[2].by_layer("kurtosis"))
    assert records[-1].signals is None
    assert 0 <= records[-1].score <= 1
    assert compiled.tadp.score.text is not None
    assert records[0].score is None


def test_harder_prompts_score_higher(compiled: WanTransformer3DModel) -> None:
    compiled.tadp.use("complexity")
    scores = []
    for prompt in (
        "a red circle stands still",
        "a small red circle bounces, then moves left behind a large blue star that orbits a growing green square, "
        "while a white triangle moves up and a yellow circle moves down, then they all suddenly stop",
    ):
        compiled.tadp.begin(prompt=prompt)
        for timestep in (900.0, 600.0, 300.0):
            compiled(**tiny_inputs(timestep=timestep))
        scores.append(compiled.tadp.score.total)
    assert scores[0] < scores[1]


def test_signals_are_kept_apart_by_sample(compiled: WanTransformer3DModel) -> None:
    compiled.tadp.use("complexity")
    compiled.tadp.begin()
    compiled(**tiny_inputs(batch=2))
    block = compiled.tadp.history[-1].signals.blocks[0]
    assert len(block["entropy"]) == len(block["relative_change"]) == 2


@dataclass(frozen=True)
class _Probing(Static):
    """Measures every forward of every block at `level`, but for blocks that are given a recipe of their own."""

    level: Level = L8
    probe_steps: int = 1000
    shadow_budget: float = 0.0
    own: tuple[tuple[str, Recipe], ...] = ()

    def recipes(self) -> tuple[Recipe, ...]:
        return Recipe(L8), Recipe(L6), Recipe()

    def plan(self, seen: Seen) -> Plan:
        return Plan.of({**dict(super().plan(seen)), **dict(self.own)})


def test_all_signals_reach_the_history(compiled: WanTransformer3DModel) -> None:
    compiled.tadp.use("complexity")
    compiled.tadp.begin()
    for timestep in (900.0, 600.0):
        for _ in ("cond", "uncond"):
            compiled(**tiny_inputs(timestep=timestep))
    records = compiled.tadp.history[-4:]
    block = records[0].signals.blocks[0]
    assert 0 <= block["entropy_error"][0] < 0.05
    errors = {width: block.by_layer(f"quantization_error:{width}") for width in (8, 6, 4)}
    assert set(errors[8]) == set(block.by_layer("kurtosis"))
    for layer in errors[8]:
        assert 0 < errors[8][layer][0] < errors[6][layer][0] < errors[4][layer][0] < 1
    assert [record.signals.blocks[0]["relative_change_delta"] == () for record in records] == [True, True, False, False]
    for before, after in zip(records[:2], records[2:], strict=True):
        assert before.branch == after.branch
        for then, now in zip(before.signals.blocks, after.signals.blocks, strict=True):
            assert now["relative_change_delta"] == (now["relative_change"][0] - then["relative_change"][0],)


def test_signals_of_a_sample_do_not_depend_on_the_batch(compiled: WanTransformer3DModel) -> None:
    compiled.tadp.use("complexity")
    inputs = tiny_inputs(batch=2)
    found = []
    for chosen in (slice(0, 2), slice(0, 1), slice(1, 2)):
        compiled.tadp.begin()
        compiled(**{name: value[chosen] if torch.is_tensor(value) else value for name, value in inputs.items()})
        found.append(compiled.tadp.history[-1].signals.blocks)
    for together, *alone in zip(*found, strict=True):
        for sample, single in enumerate(alone):
            # kernels may sum in another order where the batch is another one, and bfloat16 then rounds otherwise
            assert together["entropy"][sample] == pytest.approx(single["entropy"][0], rel=1e-2)
            assert together["relative_change"][sample] == pytest.approx(single["relative_change"][0], rel=1e-2)
            for layer, kurtosis in together.by_layer("kurtosis").items():
                assert kurtosis[sample] == pytest.approx(single.by_layer("kurtosis")[layer][0], rel=5e-2)
                error = together.by_layer("quantization_error:8")[layer][sample]
                assert error == pytest.approx(single.by_layer("quantization_error:8")[layer][0], rel=5e-2)


def test_shadow_errors_are_differences_of_a_block_at_another_recipe(compiled: WanTransformer3DModel) -> None:
    reached: list[torch.Tensor] = []  # what the last block gives
    handle = compiled.norm_out.register_forward_pre_hook(lambda module, inputs: reached.append(inputs[0].clone()))
    measured: dict[Recipe, float] = {}
    try:
        compiled.tadp.use(_Probing(shadow_budget=1.0))
        for _ in range(11):  # four runs at 6 bits and four at 16 count 12 or 44, of which a forward may spend 4
            compiled.tadp.begin()
            compiled(**tiny_inputs())
            for block in compiled.tadp.history[-1].signals.blocks:
                if block.piece == "blocks.3":
                    found = block.by_name("shadow_error")
                    measured |= {Recipe.parse(recipe): values[0] for recipe, values in found.items()}
        for recipe in (Recipe(L6), Recipe()):
            compiled.tadp.use(_Probing(own=(("blocks.3", recipe),)))
            compiled.tadp.begin()
            compiled(**tiny_inputs())
            # the run variant and the probing one may round differently: bfloat16 has 8 bits
            assert measured[recipe] == pytest.approx(relative_error(reached[-1], reached[0]), rel=0.1)
    finally:
        handle.remove()
    assert set(measured) == {Recipe(L6), Recipe()}
    assert measured[Recipe(L6)] > measured[Recipe()] > 0


def test_shadow_runs_change_neither_results_nor_memory_and_compile_nothing(compiled: WanTransformer3DModel) -> None:
    results, counts, sizes = [], [], []
    compiled.tadp.use("static:8")
    compiled(**tiny_inputs())
    at_8 = compiled.tadp.weight_bytes()
    for budget in (0.0, 1.0):
        compiled.tadp.use(_Probing(shadow_budget=budget))
        compiled.tadp.begin()
        compiled(**tiny_inputs())
        graphs = counters["stats"]["unique_graphs"], counters["inductor"]["fxgraph_cache_miss"]
        results.append([compiled(**tiny_inputs(timestep=timestep))[0] for timestep in (900.0, 600.0, 300.0)])
        records = compiled.tadp.history[-3:]
        counts.append(sum(len(block.by_name("shadow_error")) for record in records for block in record.signals.blocks))
        sizes.append(compiled.tadp.weight_bytes())
        assert (counters["stats"]["unique_graphs"], counters["inductor"]["fxgraph_cache_miss"]) == graphs
    for without, with_shadows in zip(*results, strict=True):
        assert torch.equal(without, with_shadows)
    assert counts[0] == 0 < counts[1]
    assert sizes == [at_8, at_8]


class _Sparse(torch.nn.Module):
    """Attention that code outside of all graphs computes, and that shows which blocks of keys it attended to."""

    def __init__(self) -> None:
        super().__init__()
        self.block_map: torch.Tensor | None = None

    @torch.compiler.disable
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.block_map = torch.zeros(len(x), 1, 2, 4)
        self.block_map[..., :2] = 1
        return x


class _SparseBlock(BreakingBlock):
    def __init__(self) -> None:
        super().__init__()
        self.attention = _Sparse()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.nn.functional.gelu(self.up(self.attention(x))))


def test_block_maps_of_sparse_attention_are_read() -> None:
    torch._dynamo.reset()
    model = Breaking()
    model.blocks = torch.nn.ModuleList(_SparseBlock() for _ in range(3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tadp.PrecisionFallbackWarning)
        tadp.compile(model, policy="complexity")
        model(torch.randn(2, 8, 32), torch.tensor([500.0, 500.0]))
    block = model.tadp.history[0].signals.blocks[1]
    assert block["block_map_entropy"] == (0.5, 0.5)  # log 2 / log 4
    assert block["entropy"] == ()

"""From tadp.compile to numbers: what compiled models give, record and refuse."""

import gc
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch._dynamo.utils import counters

import tadp
from tadp.calibration.channels import channel_peaks
from tadp.calibration.recording import Step
from tadp.compiler.balancing import Balancing
from tadp.compiler.layers import block_linears
from tadp.files.fingerprint import calibration_key, fingerprint
from tadp.files.packed import flatten_state_dict, unflatten_state_dict
from tadp.kernels import BitPlaneWeight, pack_linear_
from tadp.planning.calibration import Calibration
from tadp.policy import Static
from tadp.precision import L4, L8, L16, MIXED_AVERAGES, Level, Recipe, Role
from tests.breaking import Breaking
from tests.calibrations import FOUND
from tests.models import relative_error, tiny_inputs, tiny_transformer

pytestmark = pytest.mark.compiles

POLICIES = ("static:16", "static:8", "static:6", "static:4", "complexity")


@pytest.fixture(scope="module")
def reference() -> torch.Tensor:
    with torch.no_grad():
        return torch.compile(tiny_transformer(), dynamic=False)(**tiny_inputs())[0]


def test_static_16_is_plain_torch_compile(compiled: WanTransformer3DModel, reference: torch.Tensor) -> None:
    compiled.tadp.use("static:16")
    assert relative_error(compiled(**tiny_inputs())[0], reference) < 1e-2


def test_error_falls_with_every_bit(compiled: WanTransformer3DModel, reference: torch.Tensor) -> None:
    errors = []
    for policy in ("static:8", "static:6", "static:4"):
        compiled.tadp.use(policy)
        errors.append(relative_error(compiled(**tiny_inputs())[0], reference))
    assert 0 < errors[0] < errors[1] < errors[2] < 0.5


def test_weight_only_is_closer_than_quantized_activations(
    compiled: WanTransformer3DModel, reference: torch.Tensor
) -> None:
    error = {}
    for policy in ("static:8", "static:w8a16"):
        compiled.tadp.use(policy)
        error[policy] = relative_error(compiled(**tiny_inputs())[0], reference)
    assert error["static:w8a16"] < error["static:8"]


def test_switching_policies_compiles_nothing(compiled: WanTransformer3DModel) -> None:
    for policy in POLICIES:
        compiled.tadp.use(policy)
        compiled(**tiny_inputs())
    graphs = counters["stats"]["unique_graphs"]
    outputs: dict[str, torch.Tensor] = {}
    for _ in range(2):
        for policy in POLICIES:
            compiled.tadp.use(policy)
            compiled.tadp.begin()
            result = compiled(**tiny_inputs())[0]
            assert torch.equal(outputs.setdefault(policy, result), result)
    assert counters["stats"]["unique_graphs"] == graphs


def test_blocks_share_one_structure_and_explain_lists_every_layer(compiled: WanTransformer3DModel) -> None:
    compiled.tadp.use("static:4")
    rows = compiled.tadp.layers()
    blocks = [row for row in rows if row.piece.startswith("blocks.")]
    assert len({row.structure for row in blocks}) == 1
    linears = [row for row in blocks if row.role is not Role.ATTENTION]
    assert len(linears) == 4 * 10
    assert {row.level for row in linears} == {L4}
    outside = [row for row in rows if row not in blocks]
    assert {row.level for row in outside} == {L16}
    assert "blocks.3.ffn.net.2" in str(compiled.tadp.explain())


def test_masters_are_in_memory_only_while_a_block_runs_at_16(compiled: WanTransformer3DModel) -> None:
    compiled.tadp.use("static:8")
    compiled(**tiny_inputs())
    at_8 = compiled.tadp.weight_bytes()
    compiled.tadp.use("static:16")
    compiled(**tiny_inputs())
    at_16 = compiled.tadp.weight_bytes()
    compiled.tadp.use("static:8")
    compiled(**tiny_inputs())
    assert compiled.tadp.weight_bytes() == at_8
    linears = sum(
        p.numel() for name, p in tiny_transformer().named_parameters() if ".blocks" in f".{name}" and p.ndim == 2
    )
    assert at_16 - at_8 == 2 * linears


def test_the_object_looks_like_the_model_it_was(compiled: WanTransformer3DModel) -> None:
    assert isinstance(compiled, WanTransformer3DModel)
    assert type(compiled).__name__ == "WanTransformer3DModel"
    assert compiled.config.num_layers == 4
    assert set(compiled.state_dict()) == set(tiny_transformer().state_dict())


def test_a_new_shape_works_and_gives_what_the_model_gives(compiled: WanTransformer3DModel) -> None:
    compiled.tadp.use("static:16")
    inputs = tiny_inputs(batch=2)
    inputs["hidden_states"] = inputs["hidden_states"][:, :, :2, :, :4]  # not contiguous either
    with torch.no_grad():
        expected = tiny_transformer()(**inputs)[0]
    assert relative_error(compiled(**inputs)[0], expected) < 2e-2


def test_recipes_of_one_own_can_mix_levels_by_role(compiled: WanTransformer3DModel) -> None:
    class Mixed(Static):
        @property
        def recipe(self) -> Recipe:
            return Recipe(L8, ((Role.FFN_UP, L4),))

    compiled.tadp.use(Mixed(L8))
    compiled(**tiny_inputs())
    levels = {row.layer: row.level for row in compiled.tadp.layers()}
    assert levels["blocks.2.ffn.net.0.proj"] == L4
    assert levels["blocks.2.ffn.net.2"] == L8


def test_attention_at_8_runs_and_stays_close(compiled: WanTransformer3DModel) -> None:
    inputs = tiny_inputs()
    compiled.tadp.use("static:16")
    plain = compiled(**inputs)[0]
    compiled.tadp.use("static:16+attention")
    found = compiled(**inputs)[0]
    rows = [row for row in compiled.tadp.layers() if row.role is Role.ATTENTION]
    assert [row.level for row in rows] == [L8] * 2 * len(compiled.blocks)
    assert not torch.equal(found, plain)
    # Rounding in bfloat16 moves the result by 2^-8 of its size in each of some ten operations of a block.
    assert (found - plain).float().norm() < 0.02 * plain.float().norm()


def test_attention_that_has_no_kernel_warns_once_and_names_the_layer(compiled: WanTransformer3DModel) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            compiled.tadp.use(Static(L8, attention=Level.parse("w8a16")))
    messages = [str(item.message) for item in caught if item.category is tadp.PrecisionFallbackWarning]
    assert messages
    assert len(messages) == len(set(messages))
    assert "attn1 stays at 16 bits: attention has no weights to round" in messages[0]


def test_nan_inputs_are_refused(compiled: WanTransformer3DModel) -> None:
    inputs = tiny_inputs()
    inputs["hidden_states"][0, 0, 0, 0, 0] = float("nan")
    compiled.tadp.begin()
    with pytest.raises(ValueError, match="'hidden_states' of the model holds NaN"):
        compiled(**inputs)


def test_nan_inside_the_model_puts_the_generation_at_16_bits(compiled: WanTransformer3DModel) -> None:
    compiled.tadp.use("complexity:probe=8")
    compiled.tadp.begin()
    compiled(**tiny_inputs(timestep=900.0))
    inputs = tiny_inputs(timestep=600.0)
    inputs["hidden_states"][:] = float("inf")
    with pytest.warns(tadp.PrecisionFallbackWarning, match=r"blocks\.0 at step 2"):
        compiled(**inputs)
    compiled(**tiny_inputs(timestep=300.0))
    assert {recipe for _, recipe in compiled.tadp.plan} == {Recipe(L16)}
    compiled.tadp.begin()
    compiled(**tiny_inputs(timestep=900.0))
    assert compiled.tadp.plan["blocks.1"].running == Recipe(L8)


def test_a_wrong_shape_says_which(compiled: WanTransformer3DModel) -> None:
    inputs = tiny_inputs()
    inputs["encoder_hidden_states"] = torch.randn(1, 16, 31).bfloat16()
    with pytest.raises(ValueError, match=r"encoder_hidden_states \(1, 16, 31\)"):
        compiled(**inputs)


def test_an_unknown_policy_leaves_the_old_one(compiled: WanTransformer3DModel) -> None:
    compiled.tadp.use("static:8")
    with pytest.raises(ValueError, match="unknown policy"):
        compiled.tadp.use("adaptive")
    assert str(compiled.tadp.policy) == "static:8"


def test_compiling_again_only_changes_the_policy(compiled: WanTransformer3DModel) -> None:
    controller = compiled.tadp
    assert tadp.compile(compiled, policy="static:6") is compiled
    assert compiled.tadp is controller
    assert str(controller.policy) == "static:6"


def test_compiling_in_the_middle_of_a_generation_probes_then(compiled: WanTransformer3DModel) -> None:
    compiled.tadp.use("static:8")
    compiled.tadp.begin(prompt="a red circle")
    for timestep in (900.0, 700.0):
        compiled(**tiny_inputs(timestep=timestep))
    tadp.compile(compiled, policy="complexity")
    for timestep in (500.0, 300.0, 100.0):
        compiled(**tiny_inputs(timestep=timestep))
    assert [record.phase for record in compiled.tadp.history[-3:]] == ["probe", "probe", "run"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_other_types_work(dtype: torch.dtype) -> None:
    model, inputs = tiny_transformer(2, dtype), tiny_inputs(dtype=dtype)
    with torch.no_grad():
        expected = model(**inputs)[0]
    tadp.compile(model, policy="static:8")
    result = model(**inputs)[0]
    assert result.dtype == dtype
    assert relative_error(result, expected) < 0.05


def test_groups_reach_the_products_and_survive_a_state_dict() -> None:
    eager = tiny_transformer(2)
    for module in eager.blocks.modules():
        if isinstance(module, torch.nn.Linear):
            pack_linear_(module, 64)
    with torch.no_grad():
        expected = eager(**tiny_inputs())[0]  # packed weights run at 8 bits where nothing is compiled
    model = tadp.compile(tiny_transformer(2), policy="static:8", group_size=64)
    assert relative_error(model(**tiny_inputs())[0], expected) < 1e-2
    weight = model.blocks[0].ffn.net[2].weight
    assert weight.scale.shape == (64, 2)
    tensors, metadata = flatten_state_dict(model.state_dict())
    restored = unflatten_state_dict(tensors, metadata)["blocks.0.ffn.net.2.weight"]
    assert torch.equal(restored.dequantize(4), weight.dequantize(4))
    assert restored.scale.stride() == weight.scale.stride() == (1, 64)


def test_a_compiled_model_keeps_its_groups(compiled: WanTransformer3DModel) -> None:
    with pytest.raises(ValueError, match="compiled already, without group_size=64"):
        tadp.compile(compiled, group_size=64)


@pytest.mark.parametrize("group_size", [32, 0, "64"])
def test_a_group_size_that_no_kernel_has_is_refused(group_size: object) -> None:
    with pytest.raises(ValueError, match=r"group_size is None or one of \(64, 128\)"):
        tadp.compile(tiny_transformer(2), group_size=group_size)


def test_the_backend_is_found_by_name_and_keeps_the_weights() -> None:
    torch._dynamo.reset()
    model, inputs = tiny_transformer(3), tiny_inputs()
    with torch.no_grad():
        expected = model(**inputs)[0]
        compiled = torch.compile(model, backend="tadp", dynamic=False)
        results = [compiled(**tiny_inputs(timestep=900.0))[0]]
    assert relative_error(results[0], expected) < 0.05
    assert not torch.equal(results[0], expected)
    assert type(model.blocks[0].ffn.net[2].weight) is torch.nn.Parameter


def test_the_backend_follows_weights_that_change_in_place() -> None:
    torch._dynamo.reset()
    model = tiny_transformer(3)
    compiled = torch.compile(model, backend="tadp", dynamic=False)
    with torch.no_grad():
        before = compiled(**tiny_inputs())[0]
        for parameter in model.blocks.parameters():
            parameter.mul_(0.5)
        expected = model(**tiny_inputs())[0]
        assert relative_error(compiled(**tiny_inputs(timestep=1000.0))[0], before) > 0.1
        assert relative_error(compiled(**tiny_inputs())[0], expected) < 0.05


def test_the_backend_says_what_it_cannot_do() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(torch.nn.Linear(4, 4), backend="tadp")
    with pytest.warns(tadp.PrecisionFallbackWarning, match="no repeated blocks"), torch.no_grad():
        compiled(torch.randn(2, 4))


def test_the_backend_takes_shapes_of_any_size() -> None:
    torch._dynamo.reset()
    model = tiny_transformer(3)
    compiled = torch.compile(model, backend="tadp")
    graphs = []
    for frames in (3, 2, 5):
        inputs = tiny_inputs()
        inputs["hidden_states"] = torch.randn(1, 4, frames, 8, 8).to(torch.bfloat16)
        with torch.no_grad():
            assert relative_error(compiled(**inputs)[0], model(**inputs)[0]) < 0.05
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] < graphs[1] == graphs[2]


class Scaling(torch.nn.Module):
    def forward(self, x: torch.Tensor, factor: float) -> torch.Tensor:
        return torch.nn.functional.layer_norm(x, (4,), eps=1e-3) * factor


def test_the_backend_takes_fractions_that_are_fixed_and_says_that_it_takes_no_others() -> None:
    torch._dynamo.reset()
    norm, x = torch.nn.LayerNorm(4, eps=1e-2), torch.randn(2, 4)
    compiled, scaling = (torch.compile(module, backend="tadp", dynamic=True) for module in (norm, Scaling()))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", tadp.PrecisionFallbackWarning)
        for tokens in (2, 3):
            torch.testing.assert_close(compiled(x[:1].repeat(tokens, 1)), norm(x[:1].repeat(tokens, 1)))
    with pytest.warns(tadp.PrecisionFallbackWarning, match="leave dynamic out .* a fraction that may"), torch.no_grad():
        torch.testing.assert_close(scaling(x, 1.5), Scaling()(x, 1.5))


def test_the_backend_keeps_blocks_apart_where_graphs_break() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Breaking()
    x, timestep = torch.randn(2, 8, 32), torch.tensor([500.0, 500.0])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", tadp.PrecisionFallbackWarning)
        result = torch.compile(model, backend="tadp", dynamic=False)(x, timestep)
        assert relative_error(result, model(x, timestep)) < 1e-5


def test_moving_a_compiled_model_keeps_it_working_and_its_type_is_fixed() -> None:
    model = tadp.compile(tiny_transformer(2), policy="static:8")
    before = model(**tiny_inputs())[0]
    assert torch.equal(model.to("cpu")(**tiny_inputs())[0], before)
    with pytest.raises(ValueError, match=r"stays torch\.bfloat16: convert it to torch\.float16 first"):
        model.half()
    assert torch.equal(model(**tiny_inputs())[0], before)


def test_weights_that_cannot_be_packed_stay_at_16_bits_with_a_warning() -> None:
    model = tiny_transformer(2)
    model.blocks[1].ffn.net[2].weight.data[0, 0] = float("nan")
    with pytest.warns(
        tadp.PrecisionFallbackWarning, match=r"blocks\.1\.ffn\.net\.2 stays at 16 bits: its weight holds NaN"
    ):
        tadp.compile(model, policy="static:8")
    assert type(model.blocks[1].ffn.net[2].weight) is torch.nn.Parameter


class _PartlyUncompiled(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(_PartlyUncompiledBlock() for _ in range(2))

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class _PartlyUncompiledBlock(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(32, 64)
        self.down = torch.nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.uncompiled(torch.nn.functional.gelu(self.up(x)))

    @torch.compiler.disable
    def uncompiled(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(x)


def test_layers_that_are_not_captured_run_at_16_bits_with_one_warning_each() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = _PartlyUncompiled()
    x, timestep = torch.randn(2, 8, 32), torch.tensor([500.0, 500.0])
    with torch.no_grad():
        expected = model(x, timestep)
    tadp.compile(model, policy="static:16")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert relative_error(model(x, timestep), expected) < 1e-5
        model(x, timestep)
    messages = [str(item.message) for item in caught if item.category is tadp.PrecisionFallbackWarning]
    assert len(messages) == 2
    assert "blocks.0.down stays at 16 bits" in messages[0]
    reasons = {row.layer: row.reason for row in model.tadp.layers()}
    assert "did not capture" in reasons["blocks.1.down"]
    assert reasons["blocks.1.up"] == ""


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(tadp.UnsupportedModelError, match="no transformer blocks"):
        tadp.compile(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU()))


def test_what_is_neither_module_nor_pipeline_is_refused() -> None:
    with pytest.raises(TypeError, match=r"nn\.Module or a diffusers pipeline"):
        tadp.compile("model")


def test_an_unknown_policy_is_refused_before_anything_is_packed() -> None:
    model = tiny_transformer(2)
    with pytest.raises(ValueError, match="unknown policy"):
        tadp.compile(model, policy="best")
    assert type(model.blocks[0].ffn.net[2].weight) is torch.nn.Parameter


def test_the_spill_file_goes_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TADP_CACHE_DIR", str(tmp_path))
    model = tadp.compile(tiny_transformer(2), policy="static:8")
    assert len(list((tmp_path / "masters").iterdir())) == 1
    del model
    gc.collect()
    assert not list((tmp_path / "masters").iterdir())


def test_blocks_are_found_in_every_graph_of_a_model_that_breaks() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Breaking()
    x, timestep = torch.randn(2, 8, 32), torch.tensor([500.0, 500.0])
    with torch.no_grad():
        expected = model(x, timestep)
    tadp.compile(model, policy=Static(L4, keep_ends=True))
    result = model(x, timestep)
    error = relative_error(result, expected)
    assert 0 < error < 0.3
    model.tadp.use("static:4")
    assert relative_error(model(x, timestep), expected) > error  # now the ends are at 4 bits as well
    model.tadp.use("static:16")
    assert relative_error(model(x, timestep), expected) < 1e-5


def _calibrated(model: WanTransformer3DModel) -> Calibration:
    """A calibration of a model that knows its channels, and nothing else that is true."""
    layers = {found.layer: found.module for found in block_linears(model)}
    steps = [Step(1.0, {"only": tiny_inputs()})]
    peaks = channel_peaks(model, layers, steps, ())
    return replace(FOUND, key=calibration_key({"transformer": fingerprint(model)}, {}), channel_peaks=peaks)


def test_channels_are_balanced_as_calibration_found_them() -> None:
    eager, model = tiny_transformer(2), tiny_transformer(2)
    calibration = _calibrated(model)
    linears = {found.layer: found.module for found in block_linears(eager)}
    factors = Balancing(calibration.channel_peaks, 0.75).factors(
        {layer: module.weight for layer, module in linears.items()}
    )
    for layer, module in linears.items():
        pack_linear_(module, None, factors[layer])
    with torch.no_grad():
        expected = eager(**tiny_inputs())[0]
    tadp.compile(model, policy="static:8", calibration=calibration, balance=0.75)
    assert relative_error(model(**tiny_inputs())[0], expected) < 1e-2
    model.tadp.use("static:16")
    with torch.no_grad():
        assert relative_error(model(**tiny_inputs())[0], tiny_transformer(2)(**tiny_inputs())[0]) < 1e-2
    model.tadp.use("static:w8a16")
    assert relative_error(model(**tiny_inputs())[0], expected) < 0.05
    with pytest.raises(ValueError, match="balanced when it is compiled"):
        tadp.compile(model, calibration=calibration, balance=0.5)


def test_balancing_without_a_calibration_names_the_way_to_one() -> None:
    with pytest.raises(ValueError, match="tadp calibrate"):
        tadp.compile(tiny_transformer(2), balance=0.5)


def test_channels_have_widths_of_their_own_at_mixed_levels() -> None:
    eager, model = (tiny_transformer(2, torch.float32) for _ in range(2))
    inputs = tiny_inputs(dtype=torch.float32)
    calibration = replace(FOUND, key=calibration_key({"transformer": fingerprint(model)}, {}))
    widths: dict[str, torch.Tensor] = {}
    for found in block_linears(eager):
        rows = found.module.out_features
        drawn = torch.randint(2, 5, (3, rows), generator=torch.Generator().manual_seed(len(widths))) * 2
        widths[found.layer] = drawn.to(torch.uint8)
        packed = BitPlaneWeight.from_hp(found.module.weight)
        for width in (4, 6, 8):
            own = drawn[MIXED_AVERAGES.index(5)] == width
            found.module.weight.data[own] = packed.dequantize(width)[own]
    with torch.no_grad():
        expected = eager(**inputs)[0]  # weights rounded, activations not
    tadp.compile(model, policy="static:5m", calibration=replace(calibration, channel_widths=widths), rotate=None)
    error = relative_error(model(**inputs)[0], expected)
    assert {row.level for row in model.tadp.layers() if row.role is Role.FFN_UP} == {Level.parse("5m")}
    model.tadp.use("static:7m")
    other = relative_error(model(**inputs)[0], expected)
    assert error < other / 3, (error, other)


def test_mixed_levels_need_a_calibration(compiled: WanTransformer3DModel) -> None:
    for attempt in (
        lambda: tadp.compile(tiny_transformer(2), policy="static:6m"),
        lambda: compiled.tadp.use("static:6m"),
    ):
        with pytest.raises(ValueError, match=r"level 6m .*tadp calibrate"):
            attempt()

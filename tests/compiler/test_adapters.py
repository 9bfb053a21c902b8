"""LoRA adapters of peft in compiled models: base layers stay quantized, and changes of adapters compile nothing."""

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch._dynamo.utils import counters

import tadp
from tadp import passes
from tadp.compiler.adapters import RANK_STEP
from tadp.errors import KernelWarning, PrecisionFallbackWarning
from tadp.passes.annotate import ADAPTER
from tadp.precision import L8
from tests.models import relative_error, tiny_inputs, tiny_transformer

peft = pytest.importorskip("peft")

pytestmark = pytest.mark.compiles

LAYERS = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ffn.net.0.proj", "ffn.net.2")


def _run(model: torch.nn.Module) -> torch.Tensor:
    return model(**tiny_inputs())[0]


def _adapter(seed: int, rank: int = 4, size: float = 0.1, blocks: int = 2) -> dict[str, torch.Tensor]:
    """A LoRA as files of diffusers hold it."""
    generator = torch.Generator().manual_seed(seed)
    model = tiny_transformer(blocks)
    state = {}
    for block in range(blocks):
        for layer in LAYERS:
            name = f"blocks.{block}.{layer}"
            rows, columns = model.get_submodule(name).weight.shape
            state[f"transformer.{name}.lora_A.weight"] = torch.randn(rank, columns, generator=generator).bfloat16()
            state[f"transformer.{name}.lora_B.weight"] = (
                torch.randn(rows, rank, generator=generator) * size
            ).bfloat16()
    return state


def _with(model: WanTransformer3DModel, **adapters: dict[str, torch.Tensor]) -> WanTransformer3DModel:
    for name, state in adapters.items():
        model.load_lora_adapter(dict(state), adapter_name=name)
    return model


def _compiled(policy: str = "static:8") -> WanTransformer3DModel:
    return tadp.compile(tiny_transformer(2), policy=policy)


@pytest.fixture(autouse=True)
def _no_precision_is_lost() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionFallbackWarning)
        yield


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The graphs that were handed to Inductor so far."""
    found: list[object] = []
    lower = passes.lower
    monkeypatch.setattr(passes, "lower", lambda graph, *others: found.append(graph) or lower(graph, *others))
    return found


def _in_float32(model: WanTransformer3DModel) -> torch.Tensor:
    inputs = {
        name: value.float() if isinstance(value, torch.Tensor) else value for name, value in tiny_inputs().items()
    }
    return model.float()(**inputs)[0]


def test_base_layers_stay_quantized_and_results_are_right() -> None:
    exact = _in_float32(_with(tiny_transformer(2), one=_adapter(1)))
    at_16_bits = relative_error(_run(_with(tiny_transformer(2), one=_adapter(1))), exact)
    after = _with(_compiled(), one=_adapter(1))
    found = _run(after)
    assert relative_error(found, _run(_compiled())) > 0.2  # the adapter does something
    assert relative_error(found, exact) < 1.2 * at_16_bits
    rows = {row.layer: row for row in after.tadp.layers() if row.piece.startswith("blocks")}
    for block in range(2):
        for layer in LAYERS:
            assert rows[f"blocks.{block}.{layer}"].level == L8
    assert {row.reason for name, row in rows.items() if "side_path" in name} == {ADAPTER}
    before = tadp.compile(_with(tiny_transformer(2), one=_adapter(1)), policy="static:8")
    assert torch.equal(_run(before), found)


def test_what_peft_changes_compiles_nothing(lowered: list[object]) -> None:
    model = _with(_compiled(), one=_adapter(1), two=_adapter(2))
    model.set_adapters(["one", "two"], [1.0, 0.5])
    both = _run(model)
    compiled = dict(counters["stats"])
    variants = len(lowered)
    seen = [both]
    for change in (
        lambda: model.set_adapters(["one"], [1.0]),
        lambda: model.set_adapters(["one"], [0.25]),
        lambda: model.set_adapters(["two"], [1.0]),
        model.disable_lora,
        model.enable_lora,
        lambda: model.load_lora_adapter(dict(_adapter(3)), adapter_name="two", hotswap=True),
        lambda: model.load_lora_adapter(dict(_adapter(4)), adapter_name="four"),
        lambda: model.delete_adapters("two"),
        lambda: model.set_adapters(["one", "four"], [1.0, 1.0]),
    ):
        change()
        seen.append(_run(model))
    assert dict(counters["stats"]) == compiled
    assert len(lowered) == variants
    for index, adapters in ((1, {"one": 1}), (4, {}), (6, {"three": 3})):
        exact = _run(_with(tiny_transformer(2), **{name: _adapter(seed) for name, seed in adapters.items()}))
        assert relative_error(seen[index], exact) < 0.02
    assert torch.equal(seen[3], seen[5])
    assert len({value.float().sum().item() for value in seen}) >= 7  # all but those that are meant to be alike differ


def test_a_larger_adapter_compiles_once() -> None:
    model = _with(_compiled(), small=_adapter(1))
    _run(model)
    _with(model, large=_adapter(2, rank=RANK_STEP + 2))
    model.set_adapters(["large"], [1.0])
    assert relative_error(_run(model), _run(_with(tiny_transformer(2), large=_adapter(2, rank=RANK_STEP + 2)))) < 0.05
    compiled = dict(counters["stats"])
    model.set_adapters(["small"], [1.0])
    _run(model)
    assert dict(counters["stats"]) == compiled


def test_fusing_is_packing_the_merged_model() -> None:
    plain = _with(tiny_transformer(2), one=_adapter(1))
    plain.fuse_lora(0.5)
    plain.unload_lora()
    reference = tadp.compile(plain, policy="static:8")
    model = _with(_compiled(), one=_adapter(1))
    before, unfused = model.state_dict(), _run(model)
    model.fuse_lora(0.5)
    name = "blocks.1.ffn.net.2"
    fused = model.get_submodule(f"{name}.base_layer").weight
    assert torch.equal(fused.unpack(), reference.get_submodule(name).weight.unpack())
    assert torch.equal(fused.scale, reference.get_submodule(name).weight.scale)
    assert relative_error(_run(model), _run(reference)) < 0.01  # a GELU is no part of the product before a side path
    model.tadp.use("static:16")
    reference.tadp.use("static:16")
    assert relative_error(_run(model), _run(reference)) < 0.01
    model.tadp.use("static:8")
    model.unfuse_lora()
    assert torch.equal(model.get_submodule(f"{name}.base_layer").weight.high, before[f"{name}.base_layer.weight"].high)
    model.set_adapters(["one"], [1.0])
    assert torch.equal(_run(model), unfused)


def test_fusing_without_16_bit_weights_says_so(tmp_path: Path) -> None:
    tadp.save(_compiled(), tmp_path)
    model = _with(tadp.load(tmp_path), one=_adapter(1))
    expected = _run(model)
    with pytest.warns(PrecisionFallbackWarning, match="added to what 8 bits restore, from blocks"):
        model.fuse_lora()
    assert relative_error(_run(model), expected) < 0.05


def test_adapters_leave_and_the_model_is_as_before(lowered: list[object]) -> None:
    model = _compiled()
    before = _run(model)
    _with(model, one=_adapter(1))
    _run(model)
    compiled = len(lowered)
    model.unload_lora()
    assert torch.equal(_run(model), before)
    assert len(lowered) == compiled > 0
    assert type(model.blocks[0].attn1.to_q) is torch.nn.Linear


def test_saving_leaves_adapters_out_and_says_so(tmp_path: Path) -> None:
    model = _with(_compiled(), one=_adapter(1))
    _run(model)
    with pytest.warns(UserWarning, match="save_lora_weights"):
        tadp.save(model, tmp_path)
    loaded = tadp.load(tmp_path)
    assert loaded.tadp.facts.fingerprint == model.tadp.facts.fingerprint
    assert relative_error(_run(_with(loaded, one=_adapter(1))), _run(model)) < 0.01


def test_a_copy_follows_its_own_adapters() -> None:
    model = _with(_compiled(), one=_adapter(1))
    expected = _run(model)
    other = copy.deepcopy(model)
    other.set_adapters(["one"], [0.0])
    assert not torch.equal(_run(other), expected)
    assert torch.equal(_run(model), expected)


def test_the_scale_of_a_call_counts() -> None:
    model = _with(_compiled(), one=_adapter(1))
    half = model(**tiny_inputs(), attention_kwargs={"scale": 0.5})[0]
    plain = _with(tiny_transformer(2), one=_adapter(1))
    assert relative_error(half, plain(**tiny_inputs(), attention_kwargs={"scale": 0.5})[0]) < 0.05
    assert relative_error(_run(model), _run(plain)) < 0.05


def test_adapters_that_compute_with_weights_keep_their_layers_at_16_bits() -> None:
    config = peft.LoraConfig(r=4, target_modules=["to_q"], use_dora=True)
    model = tiny_transformer(2)
    model.add_adapter(config, "dora")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tadp.compile(model, policy="static:8")
        found = _run(model)
    told = {(one.category, str(one.message).partition(" (")[0]) for one in caught}
    layer = "blocks.0.attn1.to_q"
    assert (PrecisionFallbackWarning, f"{layer} stays at 16 bits: its adapter computes with it") in told
    assert any(kind is KernelWarning and f"adapter of {layer} runs as peft has it" in text for kind, text in told)
    assert relative_error(found, _run(tiny_transformer(2))) < 0.02
    with pytest.raises(ValueError, match=r"add_adapter: .*tadp\.restore\(model\)"):
        _compiled().add_adapter(config, "dora")


def test_adapters_fused_before_compiling_stay_fused_or_say_so() -> None:
    plain = _with(tiny_transformer(2), one=_adapter(1))
    plain.fuse_lora()
    compiled = tadp.compile(plain, policy="static:8")
    expected = _run(compiled)
    with pytest.raises(ValueError, match=r"were fused before the model was compiled.*tadp\.restore"):
        compiled.unfuse_lora()
    assert compiled.blocks[0].attn1.to_q.merged
    assert torch.equal(_run(compiled), expected)


def test_a_restored_model_gives_its_adapters_back_to_peft() -> None:
    model = _with(_compiled(), one=_adapter(1))
    _run(model)
    tadp.restore(model)
    assert type(model.blocks[0].attn1.to_q).__mro__[0].__module__.startswith("peft")
    expected = _run(_with(tiny_transformer(2), one=_adapter(1)))
    assert torch.equal(_run(model), expected)
    model.disable_lora()
    assert torch.equal(_run(model), _run(tiny_transformer(2)))


def test_weights_are_not_loaded_into_a_fused_model() -> None:
    model = _with(_compiled(), one=_adapter(1))
    model.fuse_lora()
    with pytest.raises(RuntimeError, match="adapters are fused into its weights, call unfuse_lora first"):
        model.load_state_dict(tiny_transformer(2).state_dict(), strict=False)


def test_fusing_and_streaming_do_not_disturb_each_other() -> None:
    model, plain = _with(_compiled(), one=_adapter(1)), _with(_compiled(), one=_adapter(1))
    without = _run(_compiled())
    model.enable_group_offload(torch.device("cpu"))
    for each in (model, plain):
        each.fuse_lora()
    assert torch.equal(_run(model), _run(plain))
    model.disable_lora()
    found = _run(model)
    assert relative_error(found, without) < 0.01
    model.state_dict()
    assert torch.equal(_run(model), found)

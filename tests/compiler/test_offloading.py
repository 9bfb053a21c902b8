"""Compiled models that move: whole, block by block, and streamed."""

import copy
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel

import tadp
from tadp.kernels import BitPlaneWeight
from tadp.runtime.streaming import SLOTS, BlockStreamer
from tests.models import tiny_inputs, tiny_transformer

pytestmark = pytest.mark.compiles

CPU = torch.device("cpu")
LAYERS = 4


def _run(model: torch.nn.Module) -> torch.Tensor:
    model.tadp.begin()
    return model(**tiny_inputs())[0]


def _compiled(policy: str = "static:8") -> WanTransformer3DModel:
    return tadp.compile(tiny_transformer(LAYERS), policy=policy)


def _streamed(policy: str = "static:8") -> tuple[WanTransformer3DModel, BlockStreamer]:
    model = _compiled(policy)
    model.enable_group_offload(CPU, CPU, offload_type="block_level", num_blocks_per_group=None)
    return model, _streamer(model)


def _streamer(model: torch.nn.Module) -> BlockStreamer:
    """What streams a model's blocks."""
    offloading = model.blocks[0]._apply._relocate.func.__self__.offloading
    assert offloading.streamer is not None
    return offloading.streamer


def _block_bytes(model: torch.nn.Module, width: int) -> int:
    """Bytes of a block's planes at a width, without scales; of its weights at 16 bits."""
    weights = [weight for weight in model.blocks[0].parameters() if isinstance(weight, BitPlaneWeight)]
    return sum(weight.numel() for weight in weights) * width // 8


@pytest.mark.parametrize("policy", ["static:8", "static:4", "static:16", "static:w8a16", "complexity"])
def test_streaming_changes_no_result(policy: str) -> None:
    plain, (model, streamer) = _compiled(policy), _streamed(policy)
    for _ in range(3):
        assert torch.equal(_run(model), _run(plain))
    assert streamer.copied > 0


def test_narrow_widths_copy_less() -> None:
    copied = {}
    for policy in ("static:16", "static:8", "static:6", "static:4"):
        model, streamer = _streamed(policy)
        _run(model)
        before = streamer.copied
        _run(model)
        copied[policy] = streamer.copied - before
        width = 16 if policy == "static:16" else int(policy.removeprefix("static:"))
        assert copied[policy] == LAYERS * _block_bytes(model, width)
    assert copied["static:4"] * 2 == copied["static:8"]
    assert copied["static:4"] * 4 == copied["static:16"]


def test_two_blocks_are_on_the_device_at_a_time() -> None:
    model, streamer = _streamed("static:8")
    _run(model)
    padding = 256 * 3 * 10  # of the planes of ten layers
    assert SLOTS * _block_bytes(model, 8) <= streamer.slot_bytes <= SLOTS * (_block_bytes(model, 8) + padding)
    places = {weight.high.data_ptr() for weight in model.parameters() if isinstance(weight, BitPlaneWeight)}
    assert len(places) == SLOTS * 10
    model.tadp.use("static:16")
    _run(model)
    both = SLOTS * (_block_bytes(model, 8) + _block_bytes(model, 16))
    assert both <= streamer.slot_bytes <= both + 2 * SLOTS * padding


def test_plans_change_while_blocks_are_streamed() -> None:
    plain, (model, _) = _compiled(), _streamed()
    for policy in ("static:4", "static:16", "static:8", "static:6"):
        for each in (plain, model):
            each.tadp.use(policy)
        assert torch.equal(_run(model), _run(plain))


def test_streamed_models_are_saved_loaded_and_restored(tmp_path: Path) -> None:
    plain, (model, _) = _compiled(), _streamed()
    expected = _run(plain)
    _run(model)
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, BitPlaneWeight):
            assert torch.equal(tensor.unpack(), plain.state_dict()[name].unpack())
    tadp.save(model, tmp_path)
    assert torch.equal(_run(model), expected)
    with pytest.raises(ValueError, match="offloaded cannot be copied"):
        copy.deepcopy(model)
    tadp.restore(model)
    originals = tiny_transformer(LAYERS).state_dict()
    assert all(torch.equal(tensor, originals[name]) for name, tensor in model.state_dict().items())


def test_options_that_mean_nothing_are_named() -> None:
    model = _compiled()
    with pytest.warns(UserWarning, match="num_blocks_per_group of enable_group_offload mean nothing"):
        model.enable_group_offload(CPU, CPU, num_blocks_per_group=2)
    with pytest.raises(ValueError, match="wait in main memory, not on meta"):
        model.enable_group_offload(CPU, torch.device("meta"))


def test_a_single_block_moves_and_comes_back() -> None:
    model = _compiled()
    expected = _run(model)
    model.blocks[1].to(CPU)
    assert torch.equal(_run(model), expected)
    model.blocks[1].to("meta")
    assert model.blocks[1].attn1.to_q.weight.device.type == "meta"
    assert model.blocks[0].attn1.to_q.weight.device.type == "cpu"
    with pytest.raises(ValueError, match=r"stays torch\.bfloat16"):
        model.blocks[0].to(torch.float32)


def test_a_block_of_a_copy_moves_by_itself() -> None:
    model = _compiled()
    other = copy.deepcopy(model)
    other.blocks[1].to("meta")
    assert model.blocks[1].attn1.to_q.weight.device.type == "cpu"


def test_what_the_recipe_does_not_foretell_is_brought_when_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, (model, streamer) = _compiled("static:4"), _streamed("static:4")
    monkeypatch.setattr(streamer, "_needs", lambda layer: frozenset())
    assert torch.equal(_run(model), _run(plain))
    for each in (plain, model):
        each.tadp.use("static:16")
    assert torch.equal(_run(model), _run(plain))


def test_a_copy_that_fails_leaves_nothing_that_is_taken_for_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, (model, streamer) = _compiled(), _streamed()
    expected, copied = _run(plain), streamer._copy

    def failing(missing: dict[str, object]) -> None:
        if any(layer.startswith("blocks.2.") for layer in missing):
            raise MemoryError
        copied(missing)

    _run(model)
    monkeypatch.setattr(streamer, "_copy", failing)
    with pytest.raises(MemoryError):
        _run(model)
    monkeypatch.setattr(streamer, "_copy", copied)
    assert torch.equal(_run(model), expected)


def test_streamed_models_keep_their_type_and_leave_with_the_model() -> None:
    model, _ = _streamed()
    expected = _run(model)
    with pytest.raises(ValueError, match=r"stays torch\.bfloat16"):
        model.to(torch.float32)
    assert torch.equal(_run(model), expected)
    model.to("meta")
    assert all(parameter.device.type == "meta" for parameter in model.parameters())


def test_a_block_without_packed_layers_runs() -> None:
    model = tiny_transformer(3)
    with torch.no_grad():
        for layer in model.blocks[1].modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight[0, 0] = torch.nan
    with pytest.warns(tadp.PrecisionFallbackWarning, match="holds NaN"):
        compiled = tadp.compile(model, policy="static:8")
    compiled.enable_group_offload(CPU)
    assert not torch.isfinite(_run(compiled)).all()

"""Conversions from one format to another: what comes out is what the other program, and tadp.load, read."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comfy_kitchen.backends.eager import quantization as comfy
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

import tadp
from tadp.compiler.converting import Order, convert, order, verify
from tadp.files.foreign.opening import open_checkpoint
from tadp.files.foreign.pieces import Outcome
from tadp.kernels import BitPlaneWeight
from tadp.sparse_linear import load_projections, use_sparse_linear_attention
from tests.files.foreign.checkpoints import (
    LAYER,
    heavy,
    linears,
    original,
    restored_tiles,
    wan_weights,
    write_comfyui,
    write_turbodiffusion,
)
from tests.models import tiny_transformer

QUERY = "blocks.0.attn1.to_q.weight"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tiny Wan in diffusers' form whose weights have outliers."""
    model = tiny_transformer(2)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            if parameter.dim() == 2:
                parameter.copy_(heavy(*parameter.shape, seed=number))
    model.save_pretrained(tmp_path / "source")
    return tmp_path / "source"


def _config(source: Path) -> dict[str, object]:
    return json.loads((source / "config.json").read_text())


def _settings(source: Path) -> dict[str, object]:
    return {name: value for name, value in _config(source).items() if not name.startswith("_")}


def _converted(source: Path, out: Path, to: str, config: dict[str, object] | None = None) -> dict[str, Outcome]:
    found: Order = order(source, to, config)
    outcomes = convert(found, out)
    verify(found, out, outcomes)
    return {outcome.name: outcome for outcome in outcomes}


def _same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    mine, others = left.state_dict(), right.state_dict()
    for name, tensor in mine.items():
        other = others[name]
        assert tensor.dtype == other.dtype, name
        if isinstance(tensor, BitPlaneWeight):
            assert isinstance(other, BitPlaneWeight)
            assert tensor.rotation == other.rotation
            assert torch.equal(tensor.unpack(), other.unpack()), name
            assert torch.equal(tensor.scale, other.scale), name
        else:
            assert torch.equal(tensor, other), name
    return set(mine) == set(others)


def test_a_converted_model_is_the_one_that_compiling_makes(source: Path, tmp_path: Path) -> None:
    outcomes = _converted(source, tmp_path / "out", "tadp")
    loaded = tadp.load(tmp_path / "out", policy="static:8", precompile=False)
    plain = WanTransformer3DModel.from_pretrained(source, torch_dtype=torch.bfloat16)
    compiled = tadp.compile(plain, policy="static:8", precompile=False)
    assert _same(loaded, compiled)
    assert loaded.tadp.facts.fingerprint == compiled.tadp.facts.fingerprint
    assert loaded.tadp.facts.packing["rotated"] == ["ffn.down"]
    assert 20 < outcomes[QUERY].decibels < 60
    masters = tadp.load(tmp_path / "out", policy="static:16", masters=source, precompile=False)
    assert masters.tadp.facts.fingerprint == compiled.tadp.facts.fingerprint


@pytest.mark.parametrize("rotation", [0, 64])
def test_int8_rows_of_comfyui_are_kept(source: Path, tmp_path: Path, rotation: int) -> None:
    weights = {stored.name: stored.read() for stored in open_checkpoint(source).tensors}
    path = write_comfyui(tmp_path / "comfy.safetensors", weights, rotation, "model.diffusion_model.")
    outcomes = _converted(path, tmp_path / "out", "tadp", _config(source))
    model = tadp.load(tmp_path / "out", policy="static:8", precompile=False)
    content = load_file(path)
    key = f"model.diffusion_model.{LAYER}"
    codes, scale = content[f"{key}.weight"], content[f"{key}.weight_scale"]
    weight = model.blocks[0].attn1.to_q.weight
    assert weight.rotation == rotation
    fits = (codes.amax(1) <= 121) | (codes.amin(1) >= -121)
    assert 0 < fits.sum() < len(fits)
    assert outcomes[QUERY].changed == int((~fits).sum())
    expected = comfy.dequantize_int8_convrot_weight(codes, scale, rotation) if rotation else codes * scale
    found = weight.to(torch.float32).dequantize()
    if rotation:  # sums of rotated rows are rounded in another order
        torch.testing.assert_close(found[fits], expected[fits], rtol=0, atol=1e-6)
    else:
        assert torch.equal(found[fits], expected[fits])
    kept = (weight.unpack().to(torch.int16) - 134) * weight.scale[:, None]
    assert torch.equal(kept[fits], (codes * scale)[fits])
    assert not torch.equal(kept[~fits], (codes * scale)[~fits])
    off = (codes * scale - kept).double().square().sum() / (codes * scale).double().square().sum()
    assert outcomes[QUERY].decibels == pytest.approx(-10 * math.log10(float(off)), abs=1e-3)


@pytest.mark.parametrize("to", ["comfyui", "torchao"])
def test_int8_rows_go_from_program_to_program_unchanged(source: Path, tmp_path: Path, to: str) -> None:
    weights = {stored.name: stored.read() for stored in open_checkpoint(source).tensors}
    path = write_comfyui(tmp_path / "comfy.safetensors", weights)
    out = tmp_path / ("out.safetensors" if to == "comfyui" else "out")
    outcomes = _converted(path, out, to, _config(source))
    assert not any(outcome.changed for outcome in outcomes.values() if "int8" in outcome.was)
    before, after = ({stored.name: stored for stored in open_checkpoint(where).tensors} for where in (path, out))
    for name, stored in before.items():
        assert torch.equal(stored.read().float(), after[name].read().float()), name


def test_comfy_kitchen_reads_what_is_written_for_comfyui(source: Path, tmp_path: Path) -> None:
    outcomes = _converted(source, tmp_path / "out.safetensors", "comfyui")
    content = load_file(tmp_path / "out.safetensors")
    assert set(content) >= {f"{layer}.comfy_quant" for layer in linears(original(wan_weights()))}
    weight = load_file(source / "diffusion_pytorch_model.safetensors")[QUERY]
    codes, scale = comfy.quantize_int8_rowwise(weight.float())
    assert torch.equal(content[f"{LAYER}.weight"], codes)
    assert torch.equal(content[f"{LAYER}.weight_scale"], scale)
    assert json.loads(bytes(content[f"{LAYER}.comfy_quant"].tolist())) == {"format": "int8_tensorwise"}
    restored = comfy.dequantize_int8_simple(codes, scale)
    off = (restored - weight).double().square().sum() / weight.double().square().sum()
    assert outcomes[QUERY].decibels == pytest.approx(-10 * math.log10(float(off)))


def test_rotations_go_where_they_divide_rows(tmp_path: Path) -> None:
    weights = {"blocks.0.a.weight": heavy(8, 512), "blocks.0.b.weight": heavy(8, 96), "c.weight": heavy(8, 256)}
    save_file(weights, tmp_path / "x.safetensors")
    _converted(tmp_path / "x.safetensors", tmp_path / "out.safetensors", "comfyui-convrot")
    content = load_file(tmp_path / "out.safetensors")
    codes, scale = comfy.quantize_int8_convrot_weight(weights["blocks.0.a.weight"], 256)
    assert torch.equal(content["blocks.0.a.weight"], codes)
    assert torch.equal(content["blocks.0.a.weight_scale"], scale)
    assert json.loads(bytes(content["blocks.0.a.comfy_quant"].tolist()))["convrot_groupsize"] == 256
    assert "convrot" not in json.loads(bytes(content["blocks.0.b.comfy_quant"].tolist()))
    assert content["c.weight"].dtype == torch.bfloat16


def test_diffusers_reads_what_is_written_for_torchao(source: Path, tmp_path: Path) -> None:
    _converted(source, tmp_path / "out", "torchao")
    found = WanTransformer3DModel.from_pretrained(tmp_path / "out", torch_dtype=torch.bfloat16)
    read = {stored.name: stored.read() for stored in open_checkpoint(tmp_path / "out").tensors}
    assert type(found.blocks[0].attn1.to_q.weight).__name__ == "Int8Tensor"
    for name, tensor in found.state_dict().items():
        plain = tensor.dequantize() if type(tensor).__name__ == "Int8Tensor" else tensor
        assert torch.equal(plain, read[name]), name


@pytest.mark.parametrize("to", ["diffusers", "torchao", "turbodiffusion"])
def test_turbodiffusion_comes_and_goes(source: Path, tmp_path: Path, to: str) -> None:
    weights = {stored.name: stored.read() for stored in open_checkpoint(source).tensors}
    path = write_turbodiffusion(tmp_path / "x-quant.pth", weights, wrapped=True)
    out = tmp_path / ("out.pth" if to == "turbodiffusion" else "out")
    outcomes = _converted(path, out, to, _config(source))
    before = torch.load(path, weights_only=True)  # noqa: TID251
    expected = restored_tiles(before[f"{LAYER}.int8_weight"], before[f"{LAYER}.scale"])
    found = {stored.name: stored for stored in open_checkpoint(out).tensors}[QUERY].read()
    if to == "turbodiffusion":
        after = torch.load(out, weights_only=True)  # noqa: TID251
        assert set(after) == {key.replace("_checkpoint_wrapped_module.", "") for key in before}
        assert not any(outcome.changed for outcome in outcomes.values() if "int8" in outcome.was)
        assert torch.equal(found, expected.to(torch.bfloat16))
        assert all(torch.equal(after[key.replace("_checkpoint_wrapped_module.", "")], before[key]) for key in before)
    elif to == "diffusers":
        assert torch.equal(found, expected.to(torch.bfloat16))
        beside = load_file(out / "beside.safetensors")
        assert len(beside) == 4
        assert all("proj_l" in name for name in beside)
        model = WanTransformer3DModel.from_pretrained(out, torch_dtype=torch.bfloat16)
        modules = use_sparse_linear_attention(model)
        load_projections(modules, beside)
        assert all(torch.equal(module.proj_l.weight, torch.eye(32)) for module in modules)
    else:
        assert outcomes[QUERY].changed == outcomes[QUERY].rows


def test_tiles_are_written_as_described(source: Path, tmp_path: Path) -> None:
    _converted(source, tmp_path / "out-quant.pth", "turbodiffusion")
    weights = {stored.name: stored.read() for stored in open_checkpoint(source).tensors}
    path = write_turbodiffusion(tmp_path / "expected.pth", weights)
    for mapped in (False, True):
        found = torch.load(tmp_path / "out-quant.pth", weights_only=True, mmap=mapped)  # noqa: TID251
        expected = torch.load(path, weights_only=True)  # noqa: TID251
        assert set(found) == {key for key in expected if "proj_l" not in key}
        assert all(torch.equal(found[key].float(), expected[key].float()) for key in found)


def test_saved_models_are_a_source(source: Path, tmp_path: Path) -> None:
    plain = WanTransformer3DModel.from_pretrained(source, torch_dtype=torch.bfloat16)
    tadp.save(tadp.compile(plain, policy="static:8", precompile=False), tmp_path / "saved")
    saved = {name: weight for name, weight in plain.state_dict().items() if isinstance(weight, BitPlaneWeight)}
    outcomes = _converted(tmp_path / "saved", tmp_path / "out", "diffusers")
    found = load_file(tmp_path / "out" / "diffusion_pytorch_model.safetensors")
    assert saved
    assert all(torch.equal(found[name], weight.dequantize()) for name, weight in saved.items())
    assert all(outcomes[name].was.startswith("8-bit planes") for name in saved)
    with pytest.raises(ValueError, match="saved model of tadp already"):
        order(tmp_path / "saved", "tadp")


def test_tensors_keep_float32_where_the_class_does(source: Path, tmp_path: Path) -> None:
    weights = {name: tensor.float() for name, tensor in wan_weights(torch.float32).items()}
    save_file(original(weights), tmp_path / "x.safetensors")
    _converted(tmp_path / "x.safetensors", tmp_path / "out", "diffusers", _config(source))
    found = load_file(tmp_path / "out" / "diffusion_pytorch_model.safetensors")
    assert found["scale_shift_table"].dtype == torch.float32
    assert torch.equal(found["scale_shift_table"], weights["scale_shift_table"])
    assert found[QUERY].dtype == torch.bfloat16


def test_the_configuration_of_wans_own_repository_will_do(source: Path, tmp_path: Path) -> None:
    wide = WanTransformer3DModel(
        **{**_settings(source), "patch_size": (1, 2, 2)}  # as every model of that repository has it
    )
    content = original({name: tensor.to(torch.bfloat16) for name, tensor in wide.state_dict().items()})
    save_file(content, tmp_path / "x.safetensors")
    config = {"_class_name": "WanModel", "dim": 64, "num_heads": 2, "in_dim": 4, "out_dim": 4}
    config |= {"freq_dim": 32, "ffn_dim": 128, "num_layers": 2, "text_dim": 32, "eps": 1e-6}
    _converted(tmp_path / "x.safetensors", tmp_path / "out", "tadp", config)
    loaded = tadp.load(tmp_path / "out", policy="static:8", precompile=False)
    assert loaded.config.attention_head_dim == 32
    assert loaded.config.patch_size == [1, 2, 2]


def test_what_does_not_fit_is_refused_before_anything_is_written(source: Path, tmp_path: Path) -> None:
    weights = original(wan_weights())
    save_file(weights, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="name one with --config"):
        order(tmp_path / "x.safetensors", "tadp")
    with pytest.raises(ValueError, match=r"does not fit WanTransformer3DModel: it lacks blocks\.2\."):
        order(tmp_path / "x.safetensors", "tadp", {**_config(source), "num_layers": 3})
    with pytest.raises(ValueError, match=r"is \(128, 64\), not \(192, 64\)"):
        order(tmp_path / "x.safetensors", "tadp", {**_config(source), "ffn_dim": 192})
    with pytest.raises(ValueError, match="'Unknown', which is no model of this diffusers"):
        order(tmp_path / "x.safetensors", "tadp", {"_class_name": "Unknown"})
    with pytest.raises(ValueError, match=r"give it a name that ends with \.pth"):
        convert(order(source, "turbodiffusion"), tmp_path / "out")
    with pytest.raises(ValueError, match="is the source: name another place"):
        convert(order(source, "diffusers"), source)
    with pytest.raises(ValueError, match="is a file"):
        convert(order(source, "diffusers"), tmp_path / "x.safetensors")
    save_file({"blocks.0.a.weight": heavy(8, 64)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="Wan transformers only"):
        order(tmp_path / "other.safetensors", "turbodiffusion")
    weights[f"{LAYER}.weight"][3, 3] = float("nan")
    save_file(weights, tmp_path / "x.safetensors")
    for to, name in (("tadp", "out"), ("comfyui", "out.safetensors"), ("turbodiffusion", "out.pth")):
        with pytest.raises(ValueError, match=rf"{LAYER}\.weight holds NaN"):
            convert(order(tmp_path / "x.safetensors", to, _config(source)), tmp_path / name)
        assert not [path for path in tmp_path.glob("**/*") if "partial" in path.name]
    assert not (tmp_path / "out.pth").exists()
    assert not list((tmp_path / "out").iterdir())


def test_damage_in_the_target_is_found(source: Path, tmp_path: Path) -> None:
    found = order(source, "comfyui")
    path = tmp_path / "out.safetensors"
    outcomes = convert(found, path)
    content = load_file(path)
    content[f"{LAYER}.weight"][0, :8] += 9
    save_file(content, path)
    with pytest.raises(ValueError, match=rf"{QUERY} differs from the source by"):
        verify(found, path, outcomes)
    del content["blocks.0.modulation"]
    save_file(content, path)
    with pytest.raises(ValueError, match="in the source or in the target only"):
        verify(found, path, outcomes)


_STREAMED = """
import json, sys
from pathlib import Path
from tadp.compiler.converting import convert, order
from tadp.compiler.skeletons import skeleton_from

config, path = json.loads(sys.argv[1]), Path(sys.argv[2])
header, end = {}, 0
for name, tensor in skeleton_from(config, "here").state_dict().items():
    size = tensor.numel() * 2
    header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [end, end + size]}
    end += size
encoded = json.dumps(header).encode()
with path.open("wb") as file:
    file.write(len(encoded).to_bytes(8, "little") + encoded)
    file.truncate(8 + len(encoded) + end)
outcomes = convert(order(path, "tadp", config), path.parent / "out", dry=True)
# Not ru_maxrss, in which the process that started this one leaves its own peak.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(end, len(outcomes), int(peak.split()[1]) * 1024)
"""


@pytest.mark.spawns
def test_a_block_of_wan_14b_is_converted_within_a_gigabyte(tmp_path: Path) -> None:
    # A sparse file: a header with the shapes of one block and all that stands around the blocks, and zeros.
    config = {"_class_name": "WanTransformer3DModel", "num_attention_heads": 40, "attention_head_dim": 128}
    config |= {"ffn_dim": 13824, "num_layers": 1, "patch_size": [1, 2, 2]}
    arguments = [sys.executable, "-c", _STREAMED, json.dumps(config), str(tmp_path / "model.safetensors")]
    printed = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    size, tensors, resident = map(int, printed.split())
    assert size > 2**30
    assert tensors == 42
    assert resident < 2**30
    assert not (tmp_path / "out").exists()

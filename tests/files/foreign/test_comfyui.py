"""ComfyUI's files, against comfy-kitchen's eager backend."""

import json
from pathlib import Path

import pytest
import torch
from comfy_kitchen.backends.eager import quantization as comfy
from safetensors.torch import save_file

from tadp.files.foreign import comfyui
from tadp.files.foreign.opening import open_checkpoint
from tadp.files.foreign.tensors import Stored
from tadp.kernels.rotation import rotate_by_product
from tests.files.foreign.checkpoints import LAYER, comfyui_layer, heavy


def _one(path: Path, content: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Stored:
    save_file(content, path, metadata)
    (stored,) = (stored for stored in open_checkpoint(path).tensors if stored.name.endswith("weight"))
    return stored


@pytest.mark.parametrize(("rotation", "per_tensor"), [(0, False), (0, True), (256, False), (64, False)])
def test_int8_is_restored_as_comfy_kitchen_restores_it(tmp_path: Path, rotation: int, per_tensor: bool) -> None:
    content = comfyui_layer(LAYER, heavy(300, 512), rotation, per_tensor)
    stored = _one(tmp_path / "x.safetensors", {**content, "bias": torch.zeros(300, dtype=torch.bfloat16)})
    codes, scale = content[f"{LAYER}.weight"], content[f"{LAYER}.weight_scale"]
    if rotation:
        expected = comfy.dequantize_int8_convrot_weight(codes, scale, rotation)
    else:
        expected = comfy.dequantize_int8_simple(codes, scale)
    parts = stored.parts()
    assert torch.equal(torch.cat([parts.rows(0, 256), parts.rows(256, 300)]), expected)
    assert stored.dtype == torch.bfloat16
    assert torch.equal(stored.read(), expected.to(torch.bfloat16))
    assert stored.scheme is not None
    assert (stored.scheme.rotation, stored.scheme.scales) == (rotation, "tensor" if per_tensor else "row")


@pytest.mark.parametrize("rotation", [0, 256])
def test_rows_are_rounded_as_comfy_kitchen_rounds_them(rotation: int) -> None:
    weight = heavy(64, 512)
    rotated = rotate_by_product(weight, rotation) if rotation else weight
    codes, scale = comfyui.encode(rotated)
    expected = comfy.quantize_int8_convrot_weight(weight, rotation) if rotation else comfy.quantize_int8_rowwise(weight)
    assert torch.equal(codes, expected[0].to(torch.int16))
    assert torch.equal(scale, expected[1].squeeze(1))


@pytest.mark.parametrize("scale_key", ["weight_scale", "scale_weight"])
def test_scaled_float8_is_restored(tmp_path: Path, scale_key: str) -> None:
    weight, scale = heavy(32, 64), torch.tensor(0.003)
    codes = comfy.quantize_per_tensor_fp8(weight, scale)
    content = {f"{LAYER}.weight": codes, f"{LAYER}.{scale_key}": scale, "scaled_fp8": torch.zeros(2)}
    stored = _one(tmp_path / "x.safetensors", content)
    assert torch.equal(stored.parts().rows(0, 32), comfy.dequantize_per_tensor_fp8(codes, scale, torch.float32))
    assert str(stored.scheme) == "float8_e4m3fn, a scale a tensor"


def test_formats_may_stand_in_the_header(tmp_path: Path) -> None:
    content = comfyui_layer(LAYER, heavy(32, 256), 256)
    said = {"format": "int8_tensorwise", "convrot": True, "convrot_groupsize": 256}
    expected = _one(tmp_path / "x.safetensors", dict(content)).read()
    del content[f"{LAYER}.comfy_quant"]
    header = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": {LAYER: said}})}
    assert torch.equal(_one(tmp_path / "y.safetensors", content, header).read(), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{LAYER}.weight_scale": None}, rf"lacks its part {LAYER}\.weight_scale"),
        ({f"{LAYER}.weight_scale": torch.zeros(3, 1)}, r"weight_scale is \(3, 1\)"),
        ({f"{LAYER}.weight_scale": torch.full((32, 1), float("nan"))}, "weight_scale holds NaN"),
        ({f"{LAYER}.weight": torch.zeros(32, 256)}, "not two dimensions of int8"),
        ({f"{LAYER}.weight": None}, "marked as quantized, and has no weight"),
        ({f"{LAYER}.comfy_quant": torch.tensor([123], dtype=torch.uint8)}, r"comfy_quant is damaged"),
        (
            {f"{LAYER}.comfy_quant": torch.tensor(list(b'{"format": "nvfp4"}'), dtype=torch.uint8)},
            "'nvfp4'; tadp reads",
        ),
        (
            {
                f"{LAYER}.comfy_quant": torch.tensor(
                    list(b'{"format": "int8_tensorwise", "convrot": true, "convrot_groupsize": 100}'), dtype=torch.uint8
                )
            },
            "convrot_groupsize=100",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: dict[str, torch.Tensor | None], message: str) -> None:
    content = comfyui_layer(LAYER, heavy(32, 256)) | change
    path = tmp_path / "x.safetensors"
    save_file({key: tensor for key, tensor in content.items() if tensor is not None}, path)
    with pytest.raises(ValueError, match=message) as caught:
        [stored.read() for stored in open_checkpoint(path).tensors]
    assert str(path) in str(caught.value)

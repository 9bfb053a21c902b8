"""torchao's files, against torchao."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
from torchao.quantization import (
    Float8WeightOnlyConfig,
    Int8DynamicActivationInt8WeightConfig,
    Int8Tensor,
    Int8WeightOnlyConfig,
    PerGroup,
    PerTensor,
    quantize_,
)
from torchao.quantization.quant_primitives import MappingType

from tadp.files.foreign import torchao
from tadp.files.foreign.opening import open_checkpoint
from tadp.files.foreign.tensors import RowCodes
from tests.files.foreign.checkpoints import heavy


def _save(path: Path, weight: torch.Tensor, bias: torch.Tensor | None = None) -> Path:
    state = {"layer.weight": weight, "layer.bias": torch.zeros(3) if bias is None else bias}
    tensors, metadata = flatten_tensor_state_dict(state)
    save_file(tensors, path, metadata)
    return path


def _quantized(config: Any, dtype: torch.dtype) -> torch.Tensor:
    module = torch.nn.Sequential(torch.nn.Linear(128, 48, dtype=dtype))
    module[0].weight.data = heavy(48, 128, dtype=dtype)
    quantize_(module, config)
    return module[0].weight.data


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(
    ("config", "scheme"),
    [
        (Int8WeightOnlyConfig(), "int8, a scale a row"),
        (Int8DynamicActivationInt8WeightConfig(), "int8, a scale a row"),
        (Float8WeightOnlyConfig(), "float8_e4m3fn, a scale a row"),
    ],
    ids=["int8", "int8-dynamic", "float8"],
)
def test_what_torchao_quantizes_is_restored_as_it_restores_it(
    tmp_path: Path, config: Any, scheme: str, dtype: torch.dtype
) -> None:
    weight = _quantized(config, dtype)
    stored, bias = open_checkpoint(_save(tmp_path / "x.safetensors", weight)).tensors
    assert (stored.name, bias.name, stored.dtype, str(stored.scheme)) == ("layer.weight", "layer.bias", dtype, scheme)
    assert torch.equal(stored.read(), weight.dequantize())


@pytest.mark.parametrize("mapping", [MappingType.SYMMETRIC, MappingType.ASYMMETRIC])
@pytest.mark.parametrize("granularity", [PerTensor(), PerGroup(32)], ids=str)
def test_other_granularities_and_zero_points_are_restored(
    tmp_path: Path, granularity: Any, mapping: MappingType
) -> None:
    weight = Int8Tensor.from_hp(heavy(48, 128) + 0.01, granularity, mapping_type=mapping)
    stored, _ = open_checkpoint(_save(tmp_path / "x.safetensors", weight)).tensors
    assert torch.equal(stored.read(), weight.dequantize())
    codes = stored.parts().codes
    assert isinstance(codes, RowCodes) == (stored.scheme is not None and stored.scheme.has_row_codes)
    if isinstance(codes, RowCodes):
        assert torch.equal(codes.codes * codes.scale[:, None], weight.dequantize())


def test_rows_are_rounded_as_torchao_rounds_them() -> None:
    weight = heavy(48, 128)
    codes, scale = torchao.encode(weight)
    module = torch.nn.Sequential(torch.nn.Linear(128, 48))
    module[0].weight.data = weight
    quantize_(module, Int8WeightOnlyConfig())
    expected = module[0].weight.data
    assert torch.equal(codes, expected.qdata.to(torch.int16))
    assert torch.equal(scale, expected.scale.squeeze(1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, said: tensors.pop("layer._weight_scale"), r"lacks its part layer\._weight_scale"),
        (lambda tensors, said: tensors.pop("layer._weight_qdata"), r"lacks its part layer\._weight_qdata"),
        (lambda tensors, said: tensors.update({"layer._weight_scale": torch.ones(5)}), r"_weight_scale is \(5,\)"),
        (lambda tensors, said: tensors.update(other=torch.ones(5)), "no metadata describes other"),
        (lambda tensors, said: said.update({"layer.weight": "{"}), r"metadata layer\.weight is damaged"),
        (lambda tensors, said: said.update({"layer.weight": '{"_type": "MXTensor"}'}), "'MXTensor'; tadp reads"),
        (lambda tensors, said: said.update(tensor_names='["layer.weight", "gone"]'), "metadata gone"),
        (
            lambda tensors, said: said.update({"layer.weight": said["layer.weight"].replace("[1, 128]", "[]")}),
            "block_size",
        ),
        (lambda tensors, said: said.update({"layer.weight": said["layer.weight"].replace("bfloat16", "x")}), "'dtype'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: Any, message: str) -> None:
    state = {"layer.weight": _quantized(Int8WeightOnlyConfig(), torch.bfloat16)}
    tensors, said = flatten_tensor_state_dict(state)
    change(tensors, said)
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, said)
    with pytest.raises(ValueError, match=message) as caught:
        open_checkpoint(path)
    assert str(path) in str(caught.value)


def test_headers_are_torchaos_own() -> None:
    weight = _quantized(Int8WeightOnlyConfig(), torch.bfloat16)
    _, expected = flatten_tensor_state_dict({"a.weight": weight, "a.bias": torch.zeros(3)})
    found = torchao.metadata_of({"a.weight": ((48, 128), torch.bfloat16)}, ["a.bias"])
    assert found == expected
    assert json.loads(torchao.metadata_of({}, ["table"])["tensor_names"]) == ["table"]

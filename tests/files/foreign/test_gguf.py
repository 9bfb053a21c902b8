"""GGUF files, against the library `gguf`."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from tadp.errors import MissingExtraError
from tadp.files.foreign.opening import open_checkpoint
from tests.files.foreign.checkpoints import heavy
from tests.hiding import hide

TYPES = gguf.GGMLQuantizationType


def _blocks(kind: gguf.GGMLQuantizationType, rows: int, columns: int) -> np.ndarray:
    """Quantized rows; the library rounds Q8_0 only, so blocks of the others are random, with finite scales."""
    if kind is TYPES.Q8_0:
        return gguf.quantize(heavy(rows, columns).numpy(), kind)
    size, width = gguf.GGML_QUANT_SIZES[kind]
    found = np.random.default_rng(0).integers(0, 256, (rows, columns // size, width), dtype=np.uint8)
    half = np.frombuffer(np.float16(0.0123).tobytes(), np.uint8)
    places = (0, 2) if kind is TYPES.Q4_K else (width - 2,)
    for place in places:
        found[..., place : place + 2] = half
    return found.reshape(rows, -1)


def _write(path: Path, tensors: dict[str, tuple[np.ndarray, gguf.GGMLQuantizationType]]) -> Path:
    writer = gguf.GGUFWriter(path, "wan")
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", [TYPES.Q8_0, TYPES.Q4_K, TYPES.Q6_K], ids=lambda kind: kind.name)
def test_blocks_are_restored_as_the_library_restores_them(tmp_path: Path, kind: gguf.GGMLQuantizationType) -> None:
    blocks = _blocks(kind, 300, 512)
    bias = np.arange(4, dtype=np.float32)
    path = _write(tmp_path / "x.gguf", {"a.weight": (blocks, kind), "a.bias": (bias, TYPES.F32)})
    checkpoint = open_checkpoint(path)
    weight, plain = checkpoint.tensors
    assert (checkpoint.format, weight.shape, weight.dtype) == ("gguf", (300, 512), torch.bfloat16)
    expected = torch.from_numpy(gguf.dequantize(blocks, kind))
    assert expected.isfinite().all()
    assert torch.equal(weight.parts().rows(0, 300), expected)
    assert torch.equal(weight.read(), expected.to(torch.bfloat16))
    assert torch.equal(plain.read(), torch.from_numpy(bias))


def test_floating_tensors_and_noted_shapes(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "wan")
    half = np.arange(24, dtype=np.float16).reshape(3, 8)
    brain = torch.arange(8).to(torch.bfloat16)
    writer.add_array("comfy.gguf.orig_shape.patch", [3, 2, 1, 2, 2])
    writer.add_tensor("patch", half)
    writer.add_tensor("brain", brain.view(torch.uint8).numpy(), raw_dtype=TYPES.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    patch, other = open_checkpoint(tmp_path / "x.gguf").tensors
    assert torch.equal(patch.read(), torch.from_numpy(half).view(3, 2, 1, 2, 2))
    assert torch.equal(other.read(), brain)


def test_other_types_and_damaged_files_are_refused(tmp_path: Path) -> None:
    blocks = gguf.quantize(heavy(4, 64).numpy(), TYPES.Q5_0)
    path = _write(tmp_path / "x.gguf", {"a.weight": (blocks, TYPES.Q5_0)})
    with pytest.raises(ValueError, match=r"x\.gguf: a\.weight is of Q5_0; tadp reads"):
        open_checkpoint(path)
    path = _write(tmp_path / "y.gguf", {"a.weight": (_blocks(TYPES.Q8_0, 4, 64), TYPES.Q8_0)})
    content = path.read_bytes()
    for length in (16, len(content) // 2, len(content) - 64):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"y\.gguf is damaged"):
            open_checkpoint(path)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "x.gguf", {"a": (np.zeros(4, np.float32), TYPES.F32)})
    hide(monkeypatch, "gguf")
    with pytest.raises(MissingExtraError, match=r"GGUF files need gguf: pip install 'tadp\[formats\]'"):
        open_checkpoint(path)

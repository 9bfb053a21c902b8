"""Saved models of tadp as a source: what they restore to, and that damage is found."""

import json
from pathlib import Path

import pytest
import torch

from tadp.files.foreign.opening import open_checkpoint
from tadp.files.foreign.tensors import RowCodes
from tadp.files.manifest import NAME, Manifest
from tadp.files.saved import write_tensors
from tadp.kernels import BitPlaneWeight
from tests.files.foreign.checkpoints import heavy

WEIGHTS = {
    "rows": BitPlaneWeight.from_hp(heavy(300, 256)),
    "rotated": BitPlaneWeight.from_hp(heavy(5, 256, 1), rotation=256),
    "grouped": BitPlaneWeight.from_hp(heavy(5, 256, 2), group_size=64),
    "balanced": BitPlaneWeight.from_hp(heavy(5, 256, 3), factors=torch.rand(256) + 0.5),
    "zeros": BitPlaneWeight.from_hp(torch.zeros(3, 64, dtype=torch.bfloat16)),
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    written, weights = write_tensors(tmp_path, {**WEIGHTS, "plain": torch.arange(5.0)}, shard_bytes=20_000)
    Manifest("", "some.Model", written, weights).save(tmp_path)
    return tmp_path


def test_weights_are_restored_as_they_restore_themselves(directory: Path) -> None:
    checkpoint = open_checkpoint(directory)
    found = {stored.name: stored for stored in checkpoint.tensors}
    assert checkpoint.format == "tadp"
    assert torch.equal(found.pop("plain").read(), torch.arange(5.0))
    assert set(found) == set(WEIGHTS)
    for name, weight in WEIGHTS.items():
        stored, parts = found[name], found[name].parts()
        assert (stored.dtype, stored.shape) == (weight.dtype, tuple(weight.shape))
        assert torch.equal(stored.read(), weight.dequantize())
        assert stored.scheme is not None
        assert stored.scheme.has_row_codes == isinstance(parts.codes, RowCodes) == (name not in ("grouped", "balanced"))
        if isinstance(parts.codes, RowCodes):
            assert parts.codes.rotation == weight.rotation == stored.scheme.rotation
    codes = found["rows"].parts().codes
    assert isinstance(codes, RowCodes)
    assert torch.equal(codes.codes * codes.scale[:, None], WEIGHTS["rows"].dequantize())


def test_damage_is_found(directory: Path) -> None:
    path = next(directory.glob("*-00002-of-*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"00002-of.* is damaged: .* does not have the checksum"):
        [stored.read() for stored in open_checkpoint(directory).tensors]
    path.unlink()
    with pytest.raises(ValueError, match=r"00002-of-.* is missing"):
        open_checkpoint(directory)
    (directory / NAME).write_text(json.dumps({"schema": 1}))
    with pytest.raises(ValueError, match=r"tadp\.json is damaged"):
        open_checkpoint(directory)


def test_files_of_another_model_are_refused(directory: Path) -> None:
    write_tensors(directory, {**WEIGHTS, "other": torch.arange(5.0)}, shard_bytes=20_000)
    with pytest.raises(ValueError, match=r"tadp\.json do not belong together: (plain|other) is in one only"):
        open_checkpoint(directory)

"""Headers of safetensors files: read as the library reads them, and damage is found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tadp.files.foreign.headers import read_header
from tadp.files.foreign.opening import open_checkpoint

TENSORS = {
    "a": torch.arange(15.0).view(3, 5),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "codes": torch.arange(7, dtype=torch.int8),
    "small": torch.ones(3).to(torch.float8_e4m3fn),
}


def _write(path: Path, change: Callable[[dict[str, Any]], object] = lambda header: None) -> Path:
    save_file(TENSORS, path, {"note": "x"})
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    encoded = json.dumps(header).encode()
    path.write_bytes(len(encoded).to_bytes(8, "little") + encoded + content[8 + length :])
    return path


def test_reads_what_the_library_wrote(tmp_path: Path) -> None:
    found, metadata = read_header(_write(tmp_path / "x.safetensors"))
    assert metadata == {"note": "x"}
    assert set(found) == set(TENSORS)
    for key, tensor in TENSORS.items():
        read = found[key].read()
        assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(read.float(), tensor.float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.update(a=3), "says nothing of a"),
        (lambda header: header["a"].pop("dtype"), "a has no field 'dtype'"),
        (lambda header: header["a"].update(dtype="F4"), "a is of F4, a type that tadp does not read"),
        (lambda header: header["a"].update(shape=[3, -5]), "field 'shape' of a"),
        (lambda header: header["a"].update(shape=[3, 6]), "'shape' and 'data_offsets' of a do not fit"),
        (lambda header: header["a"].update(data_offsets=[0]), "field 'data_offsets' of a"),
        (lambda header: header["a"].update(data_offsets=[400, 460]), "leaves a gap or overlaps"),
        (lambda header: header.pop("a"), "leaves a gap or overlaps"),
        (lambda header: header.update(__metadata__={"x": 1}), "'__metadata__'"),
    ],
)
def test_damaged_headers_name_file_and_field(tmp_path: Path, change: Callable[[Any], object], message: str) -> None:
    path = _write(tmp_path / "x.safetensors", change)
    with pytest.raises(ValueError, match=message) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_what_the_library_refuses_is_refused(tmp_path_factory: pytest.TempPathFactory, place: int, byte: int) -> None:
    path = _write(tmp_path_factory.mktemp("x") / "x.safetensors")
    content = bytearray(path.read_bytes())
    content[place % len(content)] = byte
    path.write_bytes(content)
    expected = _bytes_by_the_library(path)
    try:
        found, _ = read_header(path)
    except ValueError:
        return
    assert expected is not None
    assert {key: facts.read().view(-1).view(torch.uint8).tolist() for key, facts in found.items()} == expected


def _bytes_by_the_library(path: Path) -> dict[str, list[int]] | None:
    """What tensors hold; None for a file that is refused."""
    try:
        with safe_open(path, framework="pt") as file:
            keys = list(file.keys())
            return {key: file.get_tensor(key).view(-1).view(torch.uint8).tolist() for key in keys}
    except (SafetensorError, OSError, RuntimeError):
        return None


@pytest.mark.parametrize("length", [0, 7, 8, 100, -1])
def test_files_that_end_too_early_are_refused(tmp_path: Path, length: int) -> None:
    path = _write(tmp_path / "x.safetensors")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"x\.safetensors"):
        open_checkpoint(path)

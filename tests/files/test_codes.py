"""Codes on disk: they come back as written, runs go on where they were, and what does not fit is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tadp.errors import CalibrationWarning
from tadp.files.codes import HEADER, CodesDirectory, CodesHeader, CodesWriter, WeightCodes
from tadp.kernels.planes import encode

FOUND = CodesHeader(
    fingerprint="abc",
    group_size=64,
    importance={8: 0.05, 6: 0.2, 4: 1.0},
    layers={"blocks.0": ("blocks.0.query", "blocks.0.out"), "blocks.1": ("blocks.1.out",)},
    data={"prompts": ["a cat"], "seed": 0},
)
WEIGHTS = {
    layer: torch.randn(6, columns, generator=torch.Generator().manual_seed(columns))
    for layer, columns in (("blocks.0.query", 128), ("blocks.0.out", 20), ("blocks.1.out", 64))
}
SIZES = {"blocks.0.query": 64, "blocks.0.out": None, "blocks.1.out": 64}


def _codes(layer: str) -> WeightCodes:
    return encode(WEIGHTS[layer], SIZES[layer])


def _written(directory: Path, header: CodesHeader = FOUND) -> Path:
    writer = CodesWriter(directory, header)
    for block in writer.missing:
        writer.write(block, {layer: _codes(layer) for layer in header.layers[block]})
    return directory


def test_codes_come_back_as_they_were_written(tmp_path: Path) -> None:
    found = CodesDirectory.load(_written(tmp_path / "codes"))
    assert found.header == FOUND
    found.check("abc", WEIGHTS)
    for layer in WEIGHTS:
        read = found.of(layer)
        assert read is not None
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(read, _codes(layer), strict=True))
    assert found.of("blocks.2.out") is None
    assert {path.name for path in found.directory.iterdir()} == {HEADER, "blocks.0.safetensors", "blocks.1.safetensors"}


def test_a_run_goes_on_with_the_blocks_that_are_missing(tmp_path: Path) -> None:
    writer = CodesWriter(tmp_path, FOUND)
    assert writer.missing == ("blocks.0", "blocks.1")
    writer.write("blocks.0", {layer: _codes(layer) for layer in FOUND.layers["blocks.0"]})
    (tmp_path / ".blocks.1.77.partial.safetensors").write_bytes(b"half of a f")  # as a kill leaves it
    again = CodesWriter(tmp_path, FOUND)
    assert again.missing == ("blocks.1",)
    with pytest.warns(CalibrationWarning, match=r"no codes for blocks\.1\.out; .*tadp compensate"):
        CodesDirectory.load(tmp_path).check("abc", WEIGHTS)
    assert CodesDirectory.load(tmp_path).of("blocks.1.out") is None
    again.write("blocks.1", {})  # a block whose layer no step ran
    with pytest.warns(CalibrationWarning, match=r"no codes for blocks\.1\.out"):
        CodesDirectory.load(tmp_path).check("abc", WEIGHTS)
    assert CodesDirectory.load(tmp_path).of("blocks.1.out") is None


def test_a_run_for_something_else_does_not_go_on(tmp_path: Path) -> None:
    _written(tmp_path)
    with pytest.raises(ValueError, match=r"another run \(group_size, data differ\)"):
        CodesWriter(tmp_path, replace(FOUND, group_size=None, data={}))


def test_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'fingerprint'.* is abc, the model's is abd"):
        CodesDirectory.load(_written(tmp_path)).check("abd", WEIGHTS)


def _with_header(change: Callable[[dict[str, object]], object]) -> Callable[[Path], object]:
    def damage(directory: Path) -> None:
        content = json.loads((directory / HEADER).read_text())
        change(content)
        (directory / HEADER).write_text(json.dumps(content))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda directory: (directory / HEADER).unlink(), f"no {HEADER}: write them with `tadp compensate`"),
        (lambda directory: (directory / HEADER).write_text('{"schema": 1'), "codes.json is damaged"),
        (lambda directory: (directory / HEADER).write_text("[]"), "no field 'schema'"),
        (_with_header(lambda content: content.update(schema=2)), r"a newer tadp \(schema 2, this one reads 1\)"),
        (_with_header(lambda content: content.update(schema=0)), "an older tadp"),
        (_with_header(lambda content: content.pop("checksum")), "no field 'checksum'"),
        (_with_header(lambda content: content.update(group_size=None)), "in field 'checksum'"),
    ],
)
def test_a_header_that_cannot_be_used_is_named(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(_written(tmp_path))
    with pytest.raises(ValueError, match=message):
        CodesDirectory.load(tmp_path)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def _foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, str(path))


def _of_another_run(path: Path) -> None:
    other = path.parent / "other"
    _written(other, replace(FOUND, data={"seed": 1}))
    (other / path.name).replace(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncate, "blocks.0.safetensors is damaged"),
        (_flip, "field 'digest'"),
        (_foreign, "no field 'tadp.codes'"),
        (_of_another_run, "field 'header'"),
        (lambda path: path.write_bytes(b""), "blocks.0.safetensors is damaged"),
        (lambda path: path.write_bytes((path.parent / "blocks.1.safetensors").read_bytes()), "field 'block'"),
    ],
)
def test_a_block_that_cannot_be_used_is_named(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(_written(tmp_path) / "blocks.0.safetensors")
    with pytest.raises(ValueError, match=message):
        CodesDirectory.load(tmp_path).check("abc", WEIGHTS)


@pytest.mark.parametrize(
    ("part", "tensor", "message"),
    [
        ("codes", torch.zeros(6, 64, dtype=torch.uint8), r"blocks\.0\.query\.codes is \(6, 64\)"),
        ("codes", torch.zeros(6, 128, dtype=torch.int8), "of torch.int8, not"),
        ("scale", torch.ones(6), r"query\.scale is \(6,\) of torch.float32, not \(6, 2\)"),
        ("scale", torch.full((6, 2), float("nan")), r"query\.scale that is not finite"),
    ],
)
def test_tensors_that_do_not_fit_the_model_are_named(
    tmp_path: Path, part: str, tensor: torch.Tensor, message: str
) -> None:
    writer = CodesWriter(tmp_path, FOUND)
    codes = dict(zip(("codes", "scale"), _codes("blocks.0.query"), strict=True)) | {part: tensor}
    writer.write(
        "blocks.0", {"blocks.0.query": (codes["codes"], codes["scale"]), "blocks.0.out": _codes("blocks.0.out")}
    )
    with pytest.raises(ValueError, match=message):
        CodesDirectory.load(tmp_path).check("abc", WEIGHTS)


def test_layers_that_the_model_does_not_have_are_named(tmp_path: Path) -> None:
    _written(tmp_path)
    known = {layer: weight for layer, weight in WEIGHTS.items() if layer != "blocks.1.out"}
    with pytest.raises(ValueError, match=r"holds blocks\.1\.out, which the model does not have"):
        CodesDirectory.load(tmp_path).check("abc", known)


def test_files_hold_plain_codes_and_scales(tmp_path: Path) -> None:
    tensors = load_file(str(_written(tmp_path) / "blocks.1.safetensors"))
    assert {name: tensor.dtype for name, tensor in tensors.items()} == {
        "blocks.1.out.codes": torch.uint8,
        "blocks.1.out.scale": torch.float32,
    }

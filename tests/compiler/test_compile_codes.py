"""Compiled models with codes that were chosen with data."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from diffusers import WanTransformer3DModel

import tadp
from tadp.calibration.compensation import write_codes
from tadp.calibration.recording import Step
from tadp.calibration.rounding import IMPORTANCE
from tadp.compiler.layers import block_linears
from tadp.errors import CalibrationWarning
from tadp.files.codes import CodesDirectory, CodesHeader, CodesWriter
from tadp.files.fingerprint import fingerprint
from tadp.kernels import BitPlaneWeight
from tadp.kernels.rotation import rotate
from tests.models import relative_error, tiny_inputs, tiny_transformer

pytestmark = pytest.mark.compiles


def _choose(
    model: WanTransformer3DModel,
    directory: Path,
    group_size: int | None = None,
    rotations: Mapping[str, int] = MappingProxyType({}),
) -> Path:
    layers: dict[str, dict[str, torch.nn.Linear]] = {}
    for linear in block_linears(model):
        layers.setdefault(linear.block, {})[linear.layer] = linear.module
    names = {block: tuple(own) for block, own in layers.items()}
    header = CodesHeader(fingerprint(model), group_size, IMPORTANCE, names, dict(rotations))
    inputs = [tiny_inputs(timestep=timestep, seed=seed) for seed, timestep in enumerate((950.0, 500.0, 100.0), 10)]
    steps = [Step(1.0, {"cond": found}) for found in inputs]
    write_codes(model, layers, steps, header, CodesWriter(directory, header), rotate)
    return directory


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _choose(tiny_transformer(), tmp_path_factory.mktemp("codes"))


def _prediction(model: WanTransformer3DModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**tiny_inputs(timestep=700.0))[0]
    return found


def test_a_model_with_codes_errs_less_at_4_bits_on_other_inputs(chosen: Path) -> None:
    reference = _prediction(tiny_transformer())
    errors = {}
    for codes in (None, chosen):
        torch._dynamo.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("error", CalibrationWarning)
            model = tadp.compile(tiny_transformer(), policy="static:4", codes=codes)
        errors[codes] = relative_error(_prediction(model), reference)
    assert errors[chosen] < 0.85 * errors[None]  # 1.4 dB
    weight = model.get_submodule("blocks.1.ffn.net.2").weight
    read = CodesDirectory.load(chosen).of("blocks.1.ffn.net.2")
    assert isinstance(weight, BitPlaneWeight)
    assert read is not None
    assert torch.equal(weight.unpack(8), read[0])


def test_codes_bring_their_group_size(tmp_path: Path) -> None:
    directory = _choose(tiny_transformer(2), tmp_path, 64)
    with pytest.raises(ValueError, match=r"chosen with group_size=64, not 128: .*--group-size 128"):
        tadp.compile(tiny_transformer(2), codes=directory, group_size=128)
    model = tadp.compile(tiny_transformer(2), policy="static:4", codes=CodesDirectory.load(directory))
    assert model.get_submodule("blocks.1.ffn.net.2").weight.groups == 2


def test_layers_without_codes_are_named_and_packed_as_always(tmp_path: Path) -> None:
    directory = _choose(tiny_transformer(2), tmp_path)
    (directory / "blocks.1.safetensors").unlink()
    with pytest.warns(CalibrationWarning, match=r"no codes for blocks\.1\.attn1\.to_q, .*blocks\.1\.ffn\.net\.2"):
        model = tadp.compile(tiny_transformer(2), policy="static:8", codes=directory)
    plain = BitPlaneWeight.from_hp(tiny_transformer(2).get_submodule("blocks.1.ffn.net.2").weight, rotation=64)
    assert torch.equal(model.get_submodule("blocks.1.ffn.net.2").weight.unpack(8), plain.unpack(8))


def test_what_does_not_go_together_is_refused_before_anything_changes(chosen: Path, tmp_path: Path) -> None:
    other = tiny_transformer(2)
    with pytest.raises(ValueError, match="of another model"):
        tadp.compile(other, codes=chosen)
    assert not any(isinstance(weight, BitPlaneWeight) for weight in other.parameters())
    with pytest.raises(ValueError, match="either codes or balance"):
        tadp.compile(tiny_transformer(), codes=chosen, balance=0.5)
    with pytest.raises(ValueError, match="there are no codes in"):
        tadp.compile(tiny_transformer(), codes=tmp_path)
    compiled = tadp.compile(tiny_transformer(), policy="static:8", codes=chosen)
    with pytest.raises(ValueError, match="compiled already"):
        tadp.compile(compiled, codes=chosen)


def test_codes_bring_their_rotations(tmp_path: Path) -> None:
    layer = "blocks.1.ffn.net.0.proj"
    directory = _choose(tiny_transformer(2), tmp_path, rotations={layer: 64})
    with pytest.raises(ValueError, match="either codes or rotate"):
        tadp.compile(tiny_transformer(2), codes=directory, rotate=None)
    model = tadp.compile(tiny_transformer(2), policy="static:4", codes=directory)
    rotated = {linear.layer: linear.module.weight.rotation for linear in block_linears(model)}
    assert {name for name, size in rotated.items() if size} == {layer}
    error = relative_error(_prediction(model), _prediction(tiny_transformer(2)))
    torch._dynamo.reset()
    plain = tadp.compile(tiny_transformer(2), policy="static:4")
    assert error < relative_error(_prediction(plain), _prediction(tiny_transformer(2)))


def test_rotations_that_cannot_be_are_refused(tmp_path: Path) -> None:
    directory = _choose(tiny_transformer(2), tmp_path)
    read, rotations = CodesDirectory.load(directory), {"blocks.0.ffn.net.2": 256}
    forged = CodesDirectory(directory, replace(read.header, rotations=rotations))
    weights = {linear.layer: linear.module.weight for linear in block_linears(tiny_transformer(2))}
    with pytest.raises(ValueError, match=r"does not belong to codes\.json"):  # the header is part of what is signed
        forged.check(read.header.fingerprint, weights)
    own = replace(read.header, rotations=rotations, layers={"blocks.0": read.header.layers["blocks.0"]})
    writer = CodesWriter(tmp_path / "own", own)
    writer.write("blocks.0", {"blocks.0.ffn.net.2": read.of("blocks.0.ffn.net.2")})
    with pytest.raises(ValueError, match=r"turns 256 of the 128 columns of blocks\.0\.ffn\.net\.2"):
        CodesDirectory.load(tmp_path / "own").check(own.fingerprint, weights)

"""Compiled models with codes that were chosen with data."""

import warnings
from pathlib import Path

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
from tests.models import relative_error, tiny_inputs, tiny_transformer

pytestmark = pytest.mark.compiles


def _choose(model: WanTransformer3DModel, directory: Path, group_size: int | None = None) -> Path:
    layers: dict[str, dict[str, torch.nn.Linear]] = {}
    for linear in block_linears(model):
        layers.setdefault(linear.block, {})[linear.layer] = linear.module
    header = CodesHeader(
        fingerprint(model), group_size, IMPORTANCE, {block: tuple(own) for block, own in layers.items()}
    )
    inputs = [tiny_inputs(timestep=timestep, seed=seed) for seed, timestep in enumerate((950.0, 500.0, 100.0), 10)]
    steps = [Step(1.0, {"cond": found}) for found in inputs]
    write_codes(model, layers, steps, header, CodesWriter(directory, header))
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
    plain = BitPlaneWeight.from_hp(tiny_transformer(2).get_submodule("blocks.1.ffn.net.2").weight)
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


def test_rotated_codes_are_refused(tmp_path: Path) -> None:
    header = CodesHeader(fingerprint(tiny_transformer()), None, IMPORTANCE, {}, rotations={"blocks.0.ffn.net.2": 64})
    CodesWriter(tmp_path, header)
    with pytest.raises(ValueError, match=r"rotated weights \(blocks\.0\.ffn\.net\.2\)"):
        tadp.compile(tiny_transformer(), codes=tmp_path)

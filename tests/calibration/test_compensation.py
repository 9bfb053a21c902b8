"""Codes for a whole model: right for every layer, with what was interrupted, and for rotated weights."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tadp.calibration.compensation import write_codes
from tadp.calibration.recording import Step
from tadp.calibration.rounding import IMPORTANCE, Curvature, compensate
from tadp.files.codes import CodesDirectory, CodesHeader, CodesWriter, WeightCodes
from tadp.files.fingerprint import fingerprint


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.out = nn.Linear(64, 20), nn.Linear(64, 20), nn.Linear(20, 64)
        self.idle = nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.out(self.query(x) * self.key(x))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([Block() for _ in range(3)])

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            hidden_states = block(hidden_states)
        return hidden_states


MODEL = Model().requires_grad_(False)
X = torch.randn(1, 50, 64, generator=torch.Generator().manual_seed(1))
STEPS = [Step(1.0, {"cond": {"hidden_states": X}, "uncond": {"hidden_states": -X.flip(1)}})]
LAYERS = {
    f"blocks.{index}": {
        f"blocks.{index}.{name}": module for name, module in block.named_modules() if isinstance(module, nn.Linear)
    }
    for index, block in enumerate(MODEL.blocks)
}
HEADER = CodesHeader(
    fingerprint=fingerprint(MODEL),
    group_size=64,
    importance=IMPORTANCE,
    layers={block: tuple(own) for block, own in LAYERS.items()},
)


def _write(directory: Path, header: CodesHeader = HEADER) -> CodesDirectory:
    write_codes(MODEL, LAYERS, STEPS, header, CodesWriter(directory, header))
    return CodesDirectory.load(directory)


def test_every_layer_that_ran_has_the_codes_of_its_activations(tmp_path: Path) -> None:
    idle = write_codes(MODEL, LAYERS, STEPS, HEADER, CodesWriter(tmp_path, HEADER))
    assert idle == tuple(f"blocks.{index}.idle" for index in range(3))
    found = CodesDirectory.load(tmp_path)
    rows = torch.cat([X, -X.flip(1)]).flatten(0, 1)
    for name, size in (("query", 64), ("key", 64)):  # the columns of `out` make no groups
        layer = LAYERS["blocks.0"][f"blocks.0.{name}"]
        codes, scale = compensate(layer.weight, Curvature.of(rows.T @ rows), size)
        read = found.of(f"blocks.0.{name}")
        assert read is not None
        assert (read[0] == codes).float().mean() > 0.99  # sums in another order
        assert torch.equal(read[1], scale)
    out = found.of("blocks.0.out")
    assert out is not None
    assert out[1].shape == (64,)
    assert found.of("blocks.0.idle") is None


def test_an_interrupted_run_goes_on_and_ends_with_the_same_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _write(tmp_path / "whole")
    directory = tmp_path / "parts"
    write = CodesWriter.write

    def interrupted(self: CodesWriter, block: str, found: Mapping[str, WeightCodes]) -> None:
        if block == "blocks.1":
            raise KeyboardInterrupt
        write(self, block, found)

    with monkeypatch.context() as patch:
        patch.setattr(CodesWriter, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            _write(directory)
    first = directory / "blocks.0.safetensors"
    before = first.stat().st_mtime_ns
    assert CodesWriter(directory, HEADER).missing == ("blocks.1", "blocks.2")
    parts = _write(directory)
    assert first.stat().st_mtime_ns == before
    for layer in (layer for own in LAYERS.values() for layer in own):
        ours, theirs = parts.of(layer), whole.of(layer)
        assert (ours is None) == (theirs is None)
        assert ours is None or theirs is None or torch.equal(ours[0], theirs[0])


def test_rotated_layers_have_the_codes_of_rotated_weights_and_activations(tmp_path: Path) -> None:
    """Reversing columns stands for a rotation: it is orthogonal, and what becomes of codes is known."""
    header = replace(HEADER, group_size=None, rotations={"blocks.0.query": 64})
    asked = []

    def reverse(matrix: torch.Tensor, size: int) -> torch.Tensor:
        asked.append(size)
        return matrix.flip(-1)

    write_codes(MODEL, LAYERS, STEPS, header, CodesWriter(tmp_path / "turned", header), reverse)
    plain = _write(tmp_path / "plain", replace(HEADER, group_size=None))
    turned = CodesDirectory.load(tmp_path / "turned")
    assert set(asked) == {64}
    for layer, changed in (("blocks.0.query", True), ("blocks.0.key", False)):
        ours, theirs = turned.of(layer), plain.of(layer)
        assert ours is not None
        assert theirs is not None
        same = ours[0].flip(1) if changed else ours[0]
        assert (same == theirs[0]).float().mean() > 0.99
        assert torch.equal(ours[1], theirs[1])


def test_rotations_need_to_be_told_how(tmp_path: Path) -> None:
    header = replace(HEADER, rotations={"blocks.0.query": 64})
    with pytest.raises(ValueError, match=r"rotated, blocks\.0\.query, but nothing says how"):
        write_codes(MODEL, LAYERS, STEPS, header, CodesWriter(tmp_path, header))


def test_activations_that_are_not_finite_name_their_layer(tmp_path: Path) -> None:
    steps = [Step(1.0, {"cond": {"hidden_states": torch.full_like(X, float("nan"))}})]
    with pytest.raises(ValueError, match=r"blocks\.0\.query: a Hessian is finite"):
        write_codes(MODEL, LAYERS, steps, HEADER, CodesWriter(tmp_path, HEADER))

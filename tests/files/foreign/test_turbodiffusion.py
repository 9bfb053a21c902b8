"""TurboDiffusion's files, against the tiles of its description."""

from pathlib import Path

import pytest
import torch

from tadp.files.foreign import turbodiffusion
from tadp.files.foreign.opening import open_checkpoint
from tadp.files.foreign.tensors import TileCodes
from tests.files.foreign.checkpoints import (
    LAYER,
    heavy,
    linears,
    original,
    restored_tiles,
    tiles_of,
    wan_weights,
    write_turbodiffusion,
)


def _save(path: Path, content: object) -> Path:
    torch.save(content, path)  # noqa: TID251
    return path


@pytest.mark.parametrize("shape", [(128, 128), (300, 200), (1, 1), (257, 384)])
def test_tiles_are_rounded_and_restored_as_described(shape: tuple[int, int]) -> None:
    weight = heavy(*shape)
    codes, scale = turbodiffusion.encode(weight)
    expected_codes, expected_scale = tiles_of(weight)
    assert torch.equal(codes, expected_codes)
    assert torch.equal(scale, expected_scale)
    assert torch.equal(turbodiffusion.restore(codes, scale, 0), restored_tiles(codes, scale))


def test_the_largest_value_of_a_tile_saturates_and_zeros_stay() -> None:
    weight = torch.zeros(128, 256)
    weight[0, 0], weight[1, 0] = 1.0, -1.0
    codes, scale = turbodiffusion.encode(weight)
    assert (codes[0, 0], codes[1, 0]) == (127, -128)
    assert torch.equal(scale, torch.tensor([[1.0, 1e-8]]) / 128)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_model_is_read(tmp_path: Path, wrapped: bool) -> None:
    weights = wan_weights()
    checkpoint = open_checkpoint(write_turbodiffusion(tmp_path / "x-quant.pth", weights, wrapped))
    assert (checkpoint.format, checkpoint.is_wan, checkpoint.compute_dtype) == ("turbodiffusion", True, torch.bfloat16)
    found = {stored.name: stored for stored in checkpoint.tensors}
    extra = set(found) - set(weights)
    assert set(weights) <= set(found)
    assert len(extra) == 4
    assert all("proj_l" in name and name.startswith("blocks.") for name in extra)
    names = dict(zip(original(weights), weights, strict=True))
    quantized = {names[f"{layer}.weight"] for layer in linears(names)}
    for name, weight in weights.items():
        stored = found[name]
        if name in quantized:
            assert str(stored.scheme) == "int8, a scale a tile of 128x128"
            assert torch.equal(stored.parts().rows(0, weight.shape[0]), restored_tiles(*tiles_of(weight)))
            assert isinstance(stored.parts().codes, TileCodes)
        else:
            assert torch.equal(stored.read().reshape(weight.shape), weight)


@pytest.mark.parametrize("under", ["", "state_dict", "model"])
def test_unquantized_files_are_read(tmp_path: Path, under: str) -> None:
    weights = original(wan_weights())
    content = {f"net.{key}": tensor for key, tensor in weights.items()}
    path = _save(tmp_path / "x.pth", {under: content, "step": 3} if under else content)
    checkpoint = open_checkpoint(path)
    assert checkpoint.is_wan
    assert {stored.name for stored in checkpoint.tensors} == set(wan_weights())
    assert all(torch.equal(stored.read(), weights[stored.key[4:]]) for stored in checkpoint.tensors)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("ran",)


def test_files_with_code_are_refused_and_do_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _save(tmp_path / "x.pth", {"a": torch.zeros(2), "b": Evil()})
    with pytest.raises(ValueError, match=r"x\.pth is refused: it holds more than tensors"):
        open_checkpoint(path)
    assert "ran" not in capsys.readouterr().out


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = write_turbodiffusion(tmp_path / "x.pth", wan_weights())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"x\.pth is damaged"):
        open_checkpoint(path)
    with pytest.raises(ValueError, match=r"holds no state dict, but a list"):
        open_checkpoint(_save(tmp_path / "y.pth", [torch.zeros(2)]))
    codes = torch.zeros(4, 4, dtype=torch.int8)
    with pytest.raises(ValueError, match=rf"lacks its part {LAYER}\.scale"):
        open_checkpoint(_save(tmp_path / "z.pth", {f"{LAYER}.int8_weight": codes}))
    with pytest.raises(ValueError, match=r"scale is \(2, 1\)"):
        open_checkpoint(_save(tmp_path / "z.pth", {f"{LAYER}.int8_weight": codes, f"{LAYER}.scale": torch.zeros(2, 1)}))


def test_what_is_no_tensor_is_named(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(_save(tmp_path / "x.pth", {"a": torch.zeros(2), "step": 3}))
    assert checkpoint.left_out == ("step: no tensor",)


def test_views_and_shared_storages_are_read(tmp_path: Path) -> None:
    whole = torch.arange(24.0).view(4, 6)
    content = {"a": whole, "b": whole.t(), "c": whole[1:3, ::2], "d": whole[2], "e": torch.zeros(0, 3)}
    content["f"] = torch.tensor(3, dtype=torch.int64)
    found = open_checkpoint(_save(tmp_path / "x.pth", content)).tensors
    assert [stored.name for stored in found] == list(content)
    for stored in found:
        assert torch.equal(stored.read(), content[stored.name])

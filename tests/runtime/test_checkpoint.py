"""Masters that a model's own files hold are read from there, and nothing else is taken for them."""

from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

import tadp
from tadp.cache import cache_directory
from tadp.compiler import packing
from tadp.runtime.checkpoint import CheckpointMasters, find_places
from tests.models import tiny_inputs, tiny_transformer

CPU = torch.device("cpu")
WEIGHTS = {"a": torch.randn(3, 5).bfloat16(), "blocks.0.b": torch.randn(4, 2).bfloat16()}


def saved(directory: Path, **changes: torch.Tensor) -> Path:
    """A file of the weights, some of them changed."""
    path = directory / "model.safetensors"
    save_file({f"{layer}.weight": changes.get(layer, weight) for layer, weight in WEIGHTS.items()}, path)
    return path


def written() -> set[Path]:
    """Files of masters that are in use, also by models of other tests, which go when those are collected."""
    return set((cache_directory() / "masters").glob("*"))


def test_weights_are_found_bit_for_bit(tmp_path: Path) -> None:
    path = saved(tmp_path)
    places = find_places([tmp_path], WEIGHTS)
    assert {layer: (place.file.path, place.key) for layer, place in places.items()} == {
        layer: (path, f"{layer}.weight") for layer in WEIGHTS
    }
    masters = CheckpointMasters(places, None)
    assert all(masters.holds(layer) for layer in WEIGHTS)
    assert not masters.holds("another")
    for layer, weight in WEIGHTS.items():
        assert torch.equal(masters.get(layer, CPU), weight)


@pytest.mark.parametrize(
    "other",
    [
        WEIGHTS["a"].float(),
        WEIGHTS["a"][:2],
        WEIGHTS["a"].view(5, 3),
        WEIGHTS["a"].view(torch.float16),
        torch.where(torch.arange(15).view(3, 5) == 7, -WEIGHTS["a"], WEIGHTS["a"]),
    ],
    ids=["type", "rows", "shape", "bits of another type", "one value"],
)
def test_what_differs_is_not_taken(tmp_path: Path, other: torch.Tensor) -> None:
    saved(tmp_path, a=other.contiguous())
    assert set(find_places([tmp_path], WEIGHTS)) == {"blocks.0.b"}


def test_nan_and_signed_zero_are_compared_by_their_bits(tmp_path: Path) -> None:
    weight = torch.tensor([[float("nan"), -0.0]])
    save_file({"a.weight": weight}, tmp_path / "model.safetensors")
    assert set(find_places([tmp_path], {"a": weight})) == {"a"}
    assert find_places([tmp_path], {"a": torch.tensor([[float("nan"), 0.0]])}) == {}


def test_damaged_and_absent_files_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"no header")
    assert find_places([tmp_path, tmp_path / "absent"], WEIGHTS) == {}
    assert find_places([], WEIGHTS) == {}


@pytest.mark.parametrize("change", ["same size", "cut off"])
def test_a_file_that_is_written_over_is_not_read(tmp_path: Path, change: str) -> None:
    path = saved(tmp_path)
    masters = CheckpointMasters(find_places([tmp_path], WEIGHTS), None)
    content = path.read_bytes()
    path.write_bytes(content[:-4] + (b"" if change == "cut off" else bytes(4)))
    with pytest.raises(RuntimeError, match=r"the 16-bit weight of a cannot be read .*compile it again"):
        masters.get("a", CPU)


@pytest.mark.parametrize("change", ["removed", "replaced", "moved", "another directory"])
def test_a_file_may_go_elsewhere(tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(Path())
    masters = CheckpointMasters(find_places([Path()], WEIGHTS), None)
    if change == "removed":
        path.unlink()
    elif change == "replaced":
        (tmp_path / "new").mkdir()
        saved(tmp_path / "new", a=WEIGHTS["a"] + 1).replace(path)
    elif change == "moved":
        path.rename(tmp_path / "elsewhere")
    else:
        monkeypatch.chdir("/")
    assert torch.equal(masters.get("a", CPU), WEIGHTS["a"])


@pytest.mark.compiles
@torch.no_grad()
@pytest.mark.parametrize("shards", ["one file", "shards"])
def test_a_loaded_model_writes_no_masters_and_gives_what_it_gave(
    tmp_path: Path, shards: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = {"one file": "10GB", "shards": "20KB"}[shards]
    tiny_transformer().save_pretrained(tmp_path / "transformer", max_shard_size=size)
    assert (len(list((tmp_path / "transformer").glob("*.safetensors"))) > 1) == (shards == "shards")

    def compiled() -> WanTransformer3DModel:
        loaded = WanTransformer3DModel.from_pretrained(tmp_path / "transformer", torch_dtype=torch.bfloat16)
        return tadp.compile(loaded.eval(), policy="static:16")

    before = written()
    model = compiled()
    assert written() - before == set()
    found = model(**tiny_inputs())[0]
    monkeypatch.setattr(packing, "find_places", lambda directories, weights: {})
    other = compiled()
    assert len(written() - before) == 1
    assert torch.equal(found, other(**tiny_inputs())[0])


@pytest.mark.compiles
@torch.no_grad()
def test_layers_that_changed_since_loading_are_written(tmp_path: Path) -> None:
    tiny_transformer().save_pretrained(tmp_path)
    loaded = WanTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16).eval()
    changed = loaded.blocks[1].attn1.to_q.weight
    changed.data = changed.data * 2  # as fusing a LoRA does
    expected = changed.detach().clone()
    before = written()
    model = tadp.compile(loaded, policy="static:16")
    (own,) = written() - before
    assert list(load_file(own)) == ["blocks.1.attn1.to_q"]
    model(**tiny_inputs())
    assert torch.equal(model.tadp._pool._masters.get("blocks.1.attn1.to_q", CPU), expected)

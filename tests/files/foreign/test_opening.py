"""What a path holds: files, directories, and what is none of the formats."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tadp.files.foreign.opening import open_checkpoint
from tests.files.foreign.checkpoints import original, wan_weights


def test_shards_and_their_index_are_one_checkpoint(tmp_path: Path) -> None:
    weights = wan_weights()
    halves = list(weights)[::2], list(weights)[1::2]
    for number, names in enumerate(halves):
        save_file({name: weights[name] for name in names}, tmp_path / f"x-{number}.safetensors")
    weight_map = {name: f"x-{number}.safetensors" for number, names in enumerate(halves) for name in names}
    (tmp_path / "x.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    found = {stored.name: stored.read() for stored in open_checkpoint(tmp_path).tensors}
    assert set(found) == set(weights)
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    (tmp_path / "x-1.safetensors").unlink()
    with pytest.raises(ValueError, match=r"x-1\.safetensors is missing"):
        open_checkpoint(tmp_path)
    (tmp_path / "x.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../other.safetensors"}}))
    with pytest.raises(ValueError, match=r"index\.json is damaged: its field 'weight_map' names"):
        open_checkpoint(tmp_path)


def test_names_of_wans_repository_become_diffusers(tmp_path: Path) -> None:
    weights = wan_weights()
    content = {f"model.diffusion_model.{key}": tensor for key, tensor in original(weights).items()}
    save_file(content, tmp_path / "x.safetensors")
    config = {"_class_name": "WanModel", "dim": 64, "num_heads": 2, "in_dim": 4, "out_dim": 4}
    config |= {"freq_dim": 32, "ffn_dim": 128, "num_layers": 2, "text_dim": 32, "eps": 1e-6}
    (tmp_path / "config.json").write_text(json.dumps(config))
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.is_wan
    assert checkpoint.config == config
    assert all(torch.equal(stored.read(), weights[stored.name]) for stored in checkpoint.tensors)


def test_float8_without_scales_is_read(tmp_path: Path) -> None:
    weight = torch.randn(4, 8).to(torch.float8_e5m2)
    save_file({"a": weight, "b": torch.zeros(3, dtype=torch.float16)}, tmp_path / "x.safetensors")
    stored = next(found for found in open_checkpoint(tmp_path / "x.safetensors").tensors if found.name == "a")
    assert (str(stored.scheme), stored.dtype) == ("float8_e5m2", torch.float16)
    assert torch.equal(stored.read(), weight.to(torch.float16))


def test_what_is_none_of_the_formats_says_what_was_looked_at(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        open_checkpoint(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"holds no tensors: looked for \*\.safetensors, \*\.gguf and \.pth"):
        open_checkpoint(tmp_path)
    (tmp_path / "x.bin").write_bytes(b"hello world, this is nothing")
    with pytest.raises(ValueError, match=r"no format that tadp reads: its first bytes b'hello wor'"):
        open_checkpoint(tmp_path / "x.bin")
    (tmp_path / "x.bin").write_bytes(b"\x80\x02abc")
    with pytest.raises(ValueError, match=r"from before 1\.6"):
        open_checkpoint(tmp_path)
    (tmp_path / "y.pth").write_bytes(b"\x80\x02abc")
    with pytest.raises(ValueError, match="holds several checkpoints"):
        open_checkpoint(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / "transformer_2").mkdir()
    with pytest.raises(ValueError, match=r"whole pipeline: name one of its transformers \(transformer_2\)"):
        open_checkpoint(tmp_path)


def test_a_header_may_have_any_length(tmp_path: Path) -> None:
    for length in (0x80, 0x100):  # the first byte of a pickle, and none that is anything
        header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
        (tmp_path / "x").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
        assert open_checkpoint(tmp_path / "x").tensors[0].read().item() == 0

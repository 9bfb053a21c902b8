"""Saved models that were damaged: every change is refused, with the file named, or changes nothing."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tadp
from tadp.files.manifest import NAME
from tadp.kernels import BitPlaneWeight
from tests.models import tiny_transformer

FILES = ("config.json", NAME, "diffusion_pytorch_model.safetensors")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved")
    tadp.save(tadp.compile(tiny_transformer(1), policy="static:8"), directory)
    return directory


def flip(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :]


def cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def stretch(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content))
    return content[:place] + chance.randbytes(chance.randrange(1, 64)) + content[place:]


def overwrite(content: bytes, chance: random.Random) -> bytes:
    place, count = chance.randrange(len(content)), chance.randrange(1, 64)
    return (content[:place] + chance.randbytes(count) + content[place + count :])[: len(content)]


def exchange(content: bytes, chance: random.Random) -> bytes:
    """Two stretches change places."""
    count = chance.randrange(1, max(2, len(content) // 4))
    first = chance.randrange(max(1, len(content) - 2 * count))
    second = first + count
    return content[:first] + content[second : second + count] + content[first:second] + content[second + count :]


def retype(content: bytes, chance: random.Random) -> bytes:
    """A field of a JSON file, or of a header, gets another value, or goes."""
    start = 8 if content[:1] not in b"{" else 0
    end = 8 + int.from_bytes(content[:8], "little") if start else len(content)
    found = json.loads(content[start:end])
    holder, key = found, chance.choice(list(found))
    while isinstance(holder[key], dict) and holder[key] and chance.random() < 0.8:
        holder = holder[key]
        key = chance.choice(list(holder))
    if chance.random() < 0.3:
        del holder[key]
    else:
        holder[key] = chance.choice([None, -1, 2**70, 1.5, "x", "../x", [], {}, [[]], True, "U8", [0, 4]])
    encoded = json.dumps(found).encode()
    encoded += b" " * (-len(encoded) % 8)
    return (len(encoded).to_bytes(8, "little") if start else b"") + encoded + (content[end:] if start else b"")


CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, cut, stretch, overwrite, exchange, retype)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_no_change_is_loaded_unnoticed(saved: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    directory = tmp_path / "changed"
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(saved, directory)
    name = chance.choice(FILES)
    before = (directory / name).read_bytes()
    after = chance.choice(CHANGES)(before, chance)
    (directory / name).write_bytes(after)
    refusal = loaded = None
    try:
        loaded = tadp.load(directory)
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert str(directory) in refusal
        assert any(file in refusal for file in FILES), refusal
        return
    reference = tadp.load(saved)
    for (own, tensor), other in zip(loaded.state_dict().items(), reference.state_dict().values(), strict=True):
        parts = ("high", "mid", "low", "scale") if isinstance(tensor, BitPlaneWeight) else ()
        pairs = [(getattr(tensor, part), getattr(other, part)) for part in parts] or [(tensor, other)]
        assert all(torch.equal(*pair) for pair in pairs), own
    assert loaded.tadp.facts.fingerprint == reference.tadp.facts.fingerprint
    assert dict(loaded.config) | {"_name_or_path": ""} == dict(reference.config) | {"_name_or_path": ""}


def test_files_that_do_not_belong_together_are_refused(saved: Path, tmp_path: Path) -> None:
    other = tiny_transformer(1)
    with torch.no_grad():
        other.proj_out.weight.add_(1)
    tadp.save(tadp.compile(other, policy="static:8"), tmp_path)
    weights = "diffusion_pytorch_model.safetensors"
    (tmp_path / weights).write_bytes((saved / weights).read_bytes())
    with pytest.raises(ValueError, match=rf"{weights} is damaged: proj_out\.weight does not have the checksum"):
        tadp.load(tmp_path)
    (tmp_path / weights).unlink()
    with pytest.raises(ValueError, match=r"is missing, which tadp\.json names"):
        tadp.load(tmp_path)


def test_hostile_names_lead_nowhere(saved: Path, tmp_path: Path) -> None:
    """Neither a path in the manifest nor a class in the configuration is followed."""
    shutil.copytree(saved, tmp_path / "model")
    content = json.loads((saved / "config.json").read_text())
    for name in ("os", "DiffusionPipeline", "../evil", "__builtins__"):
        (tmp_path / "model" / "config.json").write_text(json.dumps({**content, "_class_name": name}))
        with pytest.raises(ValueError, match=r"config\.json"):
            tadp.load(tmp_path / "model")

"""Safetensors files that are written tensor by tensor."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from tadp.files.checksums import checksum
from tadp.files.shards import DTYPES, Entry, Slot, fill_shards, write_shards

TENSORS = {
    "a": torch.randn(3, 5),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 4),
    "b": torch.randn(4).to(torch.bfloat16),
    "codes": torch.arange(7, dtype=torch.uint8),
    "flag": torch.tensor([True, False]),
}


def test_safetensors_reads_what_was_written(tmp_path: Path) -> None:
    entries = [Entry.of(key, tensor) for key, tensor in TENSORS.items()]
    written = write_shards(tmp_path, "model", entries, {"note": "x"})
    read = load_file(tmp_path / "model.safetensors")
    assert read.keys() == TENSORS.keys() == written.keys()
    for key, tensor in TENSORS.items():
        assert torch.equal(read[key], tensor)
        assert read[key].dtype == tensor.dtype
        assert written[key].checksum == checksum(read[key])


def test_every_type_of_the_format_is_written(tmp_path: Path) -> None:
    for dtype in DTYPES:
        tensor = torch.ones(4).to(dtype)
        write_shards(tmp_path, "one", [Entry.of("x", tensor)], {})
        found = load_file(tmp_path / "one.safetensors")["x"]
        assert found.dtype == dtype
        assert torch.equal(found.float(), tensor.float())
    with pytest.raises(ValueError, match="complex64, which safetensors files cannot hold"):
        write_shards(tmp_path, "one", [Entry.of("x", torch.ones(1, dtype=torch.complex64))], {})


def test_shards_have_an_index_and_keep_to_their_size(tmp_path: Path) -> None:
    entries = [Entry.of(f"x{index}", torch.full((100,), float(index))) for index in range(5)]
    written = write_shards(tmp_path, "model", entries, {}, shard_bytes=900)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 2000
    assert index["weight_map"] == {key: place.file for key, place in written.items()}
    names = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    assert [place.file for place in written.values()] == [names[0], names[0], names[1], names[1], names[2]]


def test_an_interrupted_run_leaves_the_files_as_they_were(tmp_path: Path) -> None:
    write_shards(tmp_path, "model", [Entry.of("x", torch.zeros(8))], {})

    def fail() -> torch.Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path, "model", [Entry.of("x", torch.ones(8)), Entry("y", torch.float32, (2,), fail)], {})
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert torch.equal(load_file(tmp_path / "model.safetensors")["x"], torch.zeros(8))


def test_what_does_not_fit_its_entry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x is"):
        write_shards(tmp_path, "model", [Entry("x", torch.float32, (2,), lambda: torch.zeros(3))], {})
    odd = [Entry.of("odd", torch.zeros(3, dtype=torch.uint8)), Entry.of("x", torch.zeros(2))]
    with pytest.raises(ValueError, match="write larger types first"):
        write_shards(tmp_path, "model", odd, {})


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 40_000), st.integers(0, 2**30), st.integers(1, 255))
def test_a_checksum_sees_one_changed_byte(size: int, seed: int, change: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    content = torch.randint(0, 256, (size + 1,), generator=generator, dtype=torch.uint8)
    before = checksum(content)
    assert checksum(content.clone()) == before
    place = seed % (size + 1)
    content[place] = (int(content[place]) + change) % 256
    assert checksum(content) != before


def test_a_checksum_sees_runs_that_change_places_and_missing_ends() -> None:
    content = torch.randint(0, 256, (3 * 4096 * 8,), dtype=torch.uint8)
    first, second, third = content.view(3, -1)
    assert checksum(torch.cat([second, first, third])) != checksum(content)
    words = content[:4096].view(-1, 8)
    for places in ([1, 0], [2, 1, 0], [0, 2, 1]):
        moved = words.clone()
        moved[: len(places)] = words[places]
        assert checksum(moved.view(-1)) != checksum(words.view(-1))
    zeros = torch.zeros(64, dtype=torch.uint8)
    assert checksum(zeros) != checksum(zeros[:-1])
    assert checksum(content[1:]) == checksum(content[1:].clone())  # does not depend on where it lies


def test_tensors_may_come_in_another_order_than_they_lie(tmp_path: Path) -> None:
    slots = [Slot(key, tensor.dtype, tuple(tensor.shape)) for key, tensor in TENSORS.items()]
    backwards = list(reversed(TENSORS.items()))
    written = fill_shards(tmp_path / "a", "model", slots, iter(backwards), {"note": "x"}, shard_bytes=40)
    expected = write_shards(
        tmp_path / "b", "model", [Entry.of(*item) for item in TENSORS.items()], {"note": "x"}, shard_bytes=40
    )
    assert list(written.items()) == list(expected.items())
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_tensors_that_are_missing_or_too_many_leave_nothing(tmp_path: Path) -> None:
    slots = [Slot("x", torch.float32, (2,)), Slot("y", torch.float32, (2,))]
    zeros = torch.zeros(2)
    for tensors, message in (
        ([("x", zeros)], "y was not written"),
        ([("x", zeros), ("x", zeros)], "x comes twice"),
        ([("z", zeros)], "z has no place"),
    ):
        with pytest.raises(ValueError, match=message):
            fill_shards(tmp_path, "model", slots, iter(tensors), {})
        assert not list(tmp_path.iterdir())

"""Writing safetensors files of a stated order, tensor by tensor, cut into shards of a size."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch

from tadp.files.checksums import checksum
from tadp.writing import replacing

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What the format calls the types that it has."""

SHARD_BYTES = 5 * 10**9
"""Bytes of a file, where nobody says otherwise."""


@dataclass(frozen=True)
class Slot:
    """The place of a tensor that will be written.

    Attributes:
        key: its name in the file.
        dtype: its type.
        shape: its shape.
    """

    key: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()

    def content(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor for this place, in main memory and contiguous.

        Raises:
            ValueError: for one of another type or shape.
        """
        if tensor.dtype != self.dtype or tuple(tensor.shape) != self.shape:
            raise ValueError(f"{self.key} is {tuple(tensor.shape)} of {tensor.dtype}, not {self.shape} of {self.dtype}")
        return tensor.detach().cpu().contiguous()


@dataclass(frozen=True)
class Entry(Slot):
    """A tensor that will be written in its turn.

    Attributes:
        read: gives the tensor when its turn has come, so that a source need not be in memory as a whole.
    """

    read: Callable[[], torch.Tensor]

    @classmethod
    def of(cls, key: str, tensor: torch.Tensor) -> "Entry":
        """A tensor that is there already."""
        return cls(key, tensor.dtype, tuple(tensor.shape), lambda: tensor)


@dataclass(frozen=True)
class Written:
    """Where a tensor was written, and the checksum of its bytes."""

    file: str
    checksum: str


def write_shards(
    directory: Path,
    stem: str,
    entries: Sequence[Entry],
    metadata: Mapping[str, str],
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int], object] = lambda nbytes: None,
) -> dict[str, Written]:
    """Write tensors in the given order, as one file or as several with an index, named as diffusers names them.

    All files take their places when the last is finished; a run that is interrupted leaves none of them.

    Args:
        directory: is made where it is missing.
        stem: what files are named after, such as "diffusion_pytorch_model".
        entries: what to write.
        metadata: goes into the header of every file.
        shard_bytes: that a file of more than one tensor may hold.
        progress: is called with the bytes of each tensor.

    Returns:
        By key, where each tensor lies.

    Raises:
        ValueError: for a type that the format does not have, for an order in which a tensor would not begin at a
            multiple of its type's size, and where a tensor is not what its entry says.
    """
    tensors = ((entry.key, entry.read()) for entry in entries)
    return fill_shards(directory, stem, entries, tensors, metadata, shard_bytes, progress)


def fill_shards(
    directory: Path,
    stem: str,
    slots: Sequence[Slot],
    tensors: Iterable[tuple[str, torch.Tensor]],
    metadata: Mapping[str, str],
    shard_bytes: int = SHARD_BYTES,
    progress: Callable[[int], object] = lambda nbytes: None,
) -> dict[str, Written]:
    """The same for tensors that come in another order than they lie in the files: each is written to its place.

    Args:
        directory: as in `write_shards`.
        stem: likewise.
        slots: the tensors, in the order of the files.
        tensors: all of them by key, in any order; one is asked for when the one before is written.
        metadata: as in `write_shards`.
        shard_bytes: likewise.
        progress: likewise.

    Returns:
        By key, where each tensor lies, in the order of the files.

    Raises:
        ValueError: as `write_shards`, and where a tensor has no place, comes twice, or does not come.
    """
    for slot in slots:
        if slot.dtype not in DTYPES:
            raise ValueError(f"{slot.key} is of {slot.dtype}, which safetensors files cannot hold")
    shards = list(_cut(slots, shard_bytes)) or [[]]
    names = _names(stem, len(shards))
    with ExitStack() as stack:
        places: dict[str, tuple[str, BinaryIO, int, Slot]] = {}
        for name, shard in zip(names, shards, strict=True):
            header, offsets = _header(shard, metadata)
            path = stack.enter_context(replacing(directory / name))
            file: BinaryIO = stack.enter_context(path.open("wb"))
            file.write(header)
            file.truncate(len(header) + sum(slot.nbytes for slot in shard))
            places |= {slot.key: (name, file, offsets[slot.key], slot) for slot in shard}
        checksums: dict[str, str] = {}
        for key, found in tensors:
            if key not in places or key in checksums:
                raise ValueError(f"{key} has no place in the files" if key not in places else f"{key} comes twice")
            _, target, offset, slot = places[key]
            tensor = slot.content(found)
            target.seek(offset)
            target.write(tensor.view(-1).view(torch.uint8).numpy().data)
            checksums[key] = checksum(tensor)
            progress(slot.nbytes)
            del found, tensor  # so that it is gone while the next one is made
        if missing := [key for key in places if key not in checksums]:
            raise ValueError(f"{missing[0]} was not written")
        written = {key: Written(name, checksums[key]) for key, (name, *_) in places.items()}
        if len(names) > 1:
            index = {
                "metadata": {"total_size": sum(slot.nbytes for slot in slots)},
                "weight_map": {key: place.file for key, place in written.items()},
            }
            path = stack.enter_context(replacing(directory / _index(stem)))
            path.write_text(json.dumps(index, indent=1) + "\n")
    return written


def remove_shards(directory: Path, stem: str, keep: Collection[str]) -> None:
    """Remove what an earlier run wrote under a stem, but for the files in `keep`, with an index if several."""
    kept = {*keep, _index(stem)} if len(keep) > 1 else set(keep)
    for pattern in (f"{stem}.safetensors", f"{stem}-*-of-*.safetensors", _index(stem)):
        for path in directory.glob(pattern):
            if path.name not in kept:
                path.unlink()


def _cut(slots: Sequence[Slot], shard_bytes: int) -> Iterator[list[Slot]]:
    shard: list[Slot] = []
    total = 0
    for slot in slots:
        if shard and total + slot.nbytes > shard_bytes:
            yield shard
            shard, total = [], 0
        shard.append(slot)
        total += slot.nbytes
    if shard:
        yield shard


def _index(stem: str) -> str:
    """As diffusers names it: the variant of a stem such as "diffusion_pytorch_model.fp16" comes last."""
    name, _, variant = stem.partition(".")
    return f"{name}.safetensors.index.{variant}.json" if variant else f"{name}.safetensors.index.json"


def _names(stem: str, count: int) -> list[str]:
    if count == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _header(shard: Sequence[Slot], metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
    """What a file begins with, and at which byte of it each tensor does."""
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    offsets: dict[str, int] = {}
    offset = 0
    for slot in shard:
        if offset % slot.dtype.itemsize:
            raise ValueError(f"{slot.key} of {slot.dtype} would begin at byte {offset}: write larger types first")
        offsets[slot.key] = offset
        end = offset + slot.nbytes
        header[slot.key] = {"dtype": DTYPES[slot.dtype], "shape": list(slot.shape), "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    start = 8 + len(encoded)
    return len(encoded).to_bytes(8, "little") + encoded, {key: start + at for key, at in offsets.items()}

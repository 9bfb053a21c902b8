"""Writing safetensors files of a stated order, tensor by tensor, cut into shards of a size."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

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
class Entry:
    """A tensor that will be written.

    Attributes:
        key: its name in the file.
        dtype: its type.
        shape: its shape.
        read: gives the tensor when its turn has come, so that a source need not be in memory as a whole.
    """

    key: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]

    @classmethod
    def of(cls, key: str, tensor: torch.Tensor) -> "Entry":
        """A tensor that is there already."""
        return cls(key, tensor.dtype, tuple(tensor.shape), lambda: tensor)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()


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
    for entry in entries:
        if entry.dtype not in DTYPES:
            raise ValueError(f"{entry.key} is of {entry.dtype}, which safetensors files cannot hold")
    shards = list(_cut(entries, shard_bytes)) or [[]]
    names = _names(stem, len(shards))
    written: dict[str, Written] = {}
    with ExitStack() as stack:
        for name, shard in zip(names, shards, strict=True):
            path = stack.enter_context(replacing(directory / name))
            for key, digest in _write(path, shard, metadata, progress):
                written[key] = Written(name, digest)
        if len(names) > 1:
            index = {
                "metadata": {"total_size": sum(entry.nbytes for entry in entries)},
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


def _cut(entries: Sequence[Entry], shard_bytes: int) -> Iterator[list[Entry]]:
    shard: list[Entry] = []
    for entry in entries:
        if shard and sum(other.nbytes for other in shard) + entry.nbytes > shard_bytes:
            yield shard
            shard = []
        shard.append(entry)
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


def _write(
    path: Path, shard: Sequence[Entry], metadata: Mapping[str, str], progress: Callable[[int], object]
) -> Iterator[tuple[str, str]]:
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    offset = 0
    for entry in shard:
        if offset % entry.dtype.itemsize:
            raise ValueError(f"{entry.key} of {entry.dtype} would begin at byte {offset}: write larger types first")
        end = offset + entry.nbytes
        header[entry.key] = {
            "dtype": DTYPES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for entry in shard:
            tensor = entry.read().detach().cpu().contiguous()
            if tensor.dtype != entry.dtype or tuple(tensor.shape) != entry.shape:
                raise ValueError(
                    f"{entry.key} is {tuple(tensor.shape)} of {tensor.dtype}, not {entry.shape} of {entry.dtype}"
                )
            file.write(tensor.view(-1).view(torch.uint8).numpy().data)
            progress(entry.nbytes)
            yield entry.key, checksum(tensor)

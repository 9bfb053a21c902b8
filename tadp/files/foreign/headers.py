"""Headers of safetensors files, read without mapping the file: that takes as much address space as the file is long.

A file is eight bytes with the length of the header, the header, which is a JSON object, and the tensors one after the
other. Tensors are then read with plain file reads, so that what was read before does not stay in memory.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import torch

from tadp.files.shards import DTYPES

LONGEST = 100_000_000
"""Bytes of the longest header, as in the library."""

_DTYPES = {name: dtype for dtype, name in DTYPES.items()}


@dataclass(frozen=True)
class Facts:
    """What is known of a tensor before it is read.

    Attributes:
        dtype: its type in the file.
        shape: its shape.
        file: that it lies in.
        offset: byte of the file that it begins at; 0 where that is not known.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    file: Path
    offset: int = 0

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()

    def read(self) -> torch.Tensor:
        """The tensor.

        Raises:
            OSError: where the file cannot be read, or ends too early.
        """
        tensor = torch.empty(self.shape, dtype=self.dtype)
        with self.file.open("rb") as content:
            content.seek(self.offset)
            if content.readinto(tensor.view(-1).view(torch.uint8).numpy().data) != self.nbytes:
                raise OSError("the file ends before it does")
        return tensor


def read_header(file: Path) -> tuple[dict[str, Facts], dict[str, str]]:
    """The tensors of a file by key, in the order in which they lie there, and the metadata.

    Raises:
        ValueError: where the file is missing, damaged or of a type that is not read; names file and key.
    """
    try:
        with file.open("rb") as content:
            size = content.seek(0, 2)
            content.seek(0)
            length = int.from_bytes(content.read(8), "little")
            if not 2 <= length <= min(LONGEST, size - 8):
                raise ValueError(f"{file} is damaged: its header would have {length} bytes")
            header = json.loads(content.read(length))
    except FileNotFoundError as error:
        raise ValueError(f"{file} is missing") from error
    except (OSError, RecursionError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file} is damaged: its header cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise ValueError(f"{file} is damaged: its header is no object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError(f"{file} is damaged: its field '__metadata__' is no object of text")
    places = {key: _facts(file, key, said, 8 + length) for key, said in header.items()}
    ordered = dict(sorted(places.items(), key=lambda item: (item[1].offset, item[1].nbytes)))
    end = 8 + length
    for key, facts in ordered.items():
        if facts.offset != end:
            raise ValueError(f"{file} is damaged: the field 'data_offsets' of {key} leaves a gap or overlaps")
        end += facts.nbytes
    if end != size:
        raise ValueError(f"{file} is damaged: it has {size} bytes, and its header says {end}")
    return ordered, metadata


def _facts(file: Path, key: str, said: Any, start: int) -> Facts:
    dtype, shape, offsets = _fields(file, key, said)
    if dtype not in _DTYPES:
        raise ValueError(f"{file}: {key} is of {dtype}, a type that tadp does not read")
    facts = Facts(_DTYPES[dtype], shape, file, start + offsets[0])
    if offsets[1] - offsets[0] != facts.nbytes:
        raise ValueError(f"{file} is damaged: the fields 'shape' and 'data_offsets' of {key} do not fit")
    return facts


def _fields(file: Path, key: str, said: Any) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    if not isinstance(said, Mapping):
        raise ValueError(f"{file} is damaged: its header says nothing of {key}")
    dtype, shape, offsets = (said.get(field) for field in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str):
        raise ValueError(f"{file} is damaged: {key} has no field 'dtype'")
    if not _sizes(shape):
        raise ValueError(f"{file} is damaged: the field 'shape' of {key} is {shape!r}")
    if not _sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{file} is damaged: the field 'data_offsets' of {key} is {offsets!r}")
    return dtype, tuple(shape), (offsets[0], offsets[1])


def _sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(size) is int and 0 <= size < 2**63 for size in value)

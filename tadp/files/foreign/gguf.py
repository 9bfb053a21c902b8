"""GGUF checkpoints of Q8_0, Q4_K and Q6_K. The library `gguf` reads their headers and restores their blocks."""

from pathlib import Path
from typing import Any

import torch

from tadp.extras import need
from tadp.files.foreign.headers import Facts
from tadp.files.foreign.tensors import Parts, Scheme, Stored

NAME = "gguf"
MAGIC = b"GGUF"

_PLAIN = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_SCALES = {"Q8_0": "group of 32", "Q4_K": "group of 32", "Q6_K": "group of 16"}
_SHAPE_FIELD = "comfy.gguf.orig_shape."
"""Where ComfyUI-GGUF notes the shape of a tensor with more dimensions than the format has."""


def read(path: Path) -> tuple[Stored, ...]:
    """All tensors.

    Raises:
        MissingExtraError: without the library.
        ValueError: for files that are damaged, and for types that are not read; names file and tensor.
    """
    library = need("gguf", "formats", "GGUF files need gguf")
    reader = _open(library, path)
    if reader.byte_order != "I":
        raise ValueError(f"{path} is of the other byte order, which tadp does not read")
    shapes = {
        name.removeprefix(_SHAPE_FIELD): tuple(int(size) for size in field.contents())
        for name, field in reader.fields.items()
        if name.startswith(_SHAPE_FIELD)
    }
    return tuple(_stored(library, path, tensor, shapes) for tensor in reader.tensors)


def _stored(library: Any, path: Path, tensor: Any, shapes: dict[str, tuple[int, ...]]) -> Stored:
    name, kind = tensor.name, tensor.tensor_type
    own = tuple(int(size) for size in reversed(tensor.shape.tolist()))
    shape = shapes.get(name, own)
    if torch.Size(shape).numel() != torch.Size(own).numel():
        raise ValueError(f"{path}: {name} is {own}, and its field {_SHAPE_FIELD}{name} says {shape}")
    if kind.name in _PLAIN:
        facts = Facts(_PLAIN[kind.name], shape, path, int(tensor.data_offset))
        return Stored(name, name, shape, facts.dtype, lambda: _read(facts, name))
    if kind.name not in _SCALES:
        raise ValueError(f"{path}: {name} is of {kind.name}; tadp reads {', '.join([*_PLAIN, *_SCALES])}")
    if len(shape) != 2 or shape != own:
        raise ValueError(f"{path}: {name} is of {kind.name} and {shape}; tadp reads matrices of it")
    blocks = Facts(torch.uint8, (shape[0], tensor.n_bytes // max(shape[0], 1)), path, int(tensor.data_offset))

    def load() -> Parts:
        content = _read(blocks, name).numpy()
        return Parts(lambda start, stop: torch.from_numpy(library.quants.dequantize(content[start:stop], kind)))

    return Stored(name, name, shape, torch.bfloat16, load, Scheme(kind.name, _SCALES[kind.name]))


def _read(facts: Facts, name: str) -> torch.Tensor:
    try:
        return facts.read()
    except OSError as error:
        raise ValueError(f"{facts.file} is damaged: {name} cannot be read ({error})") from error


def _open(library: Any, path: Path) -> Any:
    try:
        return library.GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError, OverflowError, MemoryError, TypeError) as error:
        raise ValueError(f"{path} is damaged, or no GGUF that its library reads ({error})") from error

"""GGUF checkpoints, read with the library `gguf`: Q8_0, Q4_K, Q6_K and what else it restores."""

from pathlib import Path
from typing import Any

import torch

from tadp.extras import need
from tadp.files.foreign.tensors import Parts, Scheme, Stored

NAME = "gguf"
MAGIC = b"GGUF"

_PLAIN = {"F32": torch.float32, "F16": torch.float16}
_READ = ("Q8_0", "Q4_K", "Q6_K")
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
    shapes = {
        name.removeprefix(_SHAPE_FIELD): tuple(int(size) for size in field.contents())
        for name, field in reader.fields.items()
        if name.startswith(_SHAPE_FIELD)
    }
    return tuple(_stored(library, path, index, tensor, shapes) for index, tensor in enumerate(reader.tensors))


def _stored(library: Any, path: Path, index: int, tensor: Any, shapes: dict[str, tuple[int, ...]]) -> Stored:
    name, kind = tensor.name, tensor.tensor_type.name
    own = tuple(int(size) for size in reversed(tensor.shape.tolist()))
    shape = shapes.get(name, own)
    if torch.Size(shape).numel() != torch.Size(own).numel():
        raise ValueError(f"{path}: {name} is {own}, and its field {_SHAPE_FIELD}{name} says {shape}")
    if kind in _PLAIN or kind == "BF16":

        def plain() -> torch.Tensor:
            data = _content(library, path, index)
            if kind == "BF16":
                return torch.from_numpy(data.copy()).view(torch.bfloat16).reshape(shape)
            return torch.from_numpy(data.copy()).reshape(shape)

        return Stored(name, name, shape, _PLAIN.get(kind, torch.bfloat16), plain)
    if kind not in _READ:
        raise ValueError(f"{path}: {name} is of {kind}; tadp reads {', '.join([*_PLAIN, 'BF16', *_READ])}")
    if len(shape) != 2 or shape != own:
        raise ValueError(f"{path}: {name} is of {kind} and {shape}; tadp reads matrices of it")

    def load() -> Parts:
        blocks = _content(library, path, index)

        def restore(start: int, stop: int) -> torch.Tensor:
            return torch.from_numpy(library.quants.dequantize(blocks[start:stop], tensor.tensor_type))

        return Parts(restore)

    return Stored(name, name, shape, torch.bfloat16, load, Scheme(kind, _SCALES[kind]))


def _open(library: Any, path: Path) -> Any:
    try:
        return library.GGUFReader(path)
    except (OSError, ValueError, IndexError, KeyError, OverflowError, MemoryError, TypeError) as error:
        raise ValueError(f"{path} is damaged, or no GGUF that its library reads ({error})") from error


def _content(library: Any, path: Path, index: int) -> Any:
    """Mapped anew for each tensor: pages that were read count as memory while the file stays mapped."""
    return _open(library, path).tensors[index].data

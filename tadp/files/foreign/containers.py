"""Files that hold tensors by key, whatever these mean: safetensors and PyTorch's own, read one tensor at a time."""

import json
import pickle  # noqa: TID251 (the name of the error that a refused file raises; nothing is unpickled with it)
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tadp.files.foreign.headers import Facts, read_header
from tadp.files.saved import STEM


@dataclass(frozen=True)
class Container:
    """Tensors by key.

    Attributes:
        path: file or directory.
        facts: by key.
        read: gives one, unchecked; `get` checks.
        metadata: that the files carry.
        left_out: keys of what is no tensor.
    """

    path: Path
    facts: Mapping[str, Facts]
    read: Callable[[str], torch.Tensor]
    metadata: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def get(self, key: str) -> torch.Tensor:
        """A tensor.

        Raises:
            ValueError: where the file is damaged; names file and key.
        """
        facts = self.facts[key]
        try:
            tensor = self.read(key)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{facts.file} is damaged: {key} cannot be read ({error})") from error
        if tuple(tensor.shape) != facts.shape or tensor.dtype != facts.dtype:
            raise ValueError(f"{facts.file} is damaged: {key} is not what its header says")
        return tensor

    def need(self, key: str, dtypes: tuple[torch.dtype, ...], shapes: tuple[tuple[int, ...], ...], of: str) -> None:
        """Check that a part of a quantized weight is there and fits.

        Raises:
            ValueError: where it does not; names file, key and the weight `of` which it is a part.
        """
        found = self.facts.get(key)
        if found is None:
            raise ValueError(f"{self.facts[of].file}: the quantized weight {of} lacks its part {key}")
        if found.dtype not in dtypes or found.shape not in shapes:
            wanted = f"{' or '.join(map(str, shapes))} of {' or '.join(map(str, dtypes))}"
            raise ValueError(f"{found.file}: {key} is {found.shape} of {found.dtype}, but {of} needs {wanted}")


def open_safetensors(path: Path) -> Container:
    """A safetensors file, or a directory of such, with an index if there are several.

    Raises:
        ValueError: for files that are missing, damaged, or of types that are not read; names file and field.
    """
    facts: dict[str, Facts] = {}
    metadata: dict[str, str] = {}
    for file in _safetensors_files(path):
        found, said = read_header(file)
        metadata |= said
        for key, place in found.items():
            if key in facts:
                raise ValueError(f"both {facts[key].file} and {file} hold {key}")
            facts[key] = place
    return Container(path, facts, lambda key: facts[key].read(), metadata)


def open_pickled(path: Path) -> Container:
    """A file of ``torch.save``: a state dict, or a dict with one under "state_dict" or "model". No code in it is run.

    Raises:
        ValueError: for anything else, for files that are damaged, and for pickles of more than tensors.
    """
    with FakeTensorMode():  # names, shapes and places, without any content
        heads = _state_dict(path, _load(path))
    facts, strides = {}, {}
    size = path.stat().st_size
    for key, head in heads.items():
        if isinstance(head, torch.Tensor):
            facts[key] = _place(path, key, head, size)
            strides[key] = head.stride()
    left_out = tuple(key for key in heads if key not in facts)

    def read(key: str) -> torch.Tensor:
        # Not mapped, as in safetensors files. Storages lie in these files as they are.
        found, stride = facts[key], strides[key]
        span = _span(found.shape, stride)
        content = replace(found, shape=(span,)).read()
        return content.as_strided(found.shape, stride).contiguous()

    return Container(path, facts, read, left_out=left_out)


def read_config(path: Path) -> Mapping[str, Any]:
    """The configuration in a directory; empty where there is none.

    Raises:
        ValueError: where it is damaged.
    """
    file = path / "config.json"
    if not path.is_dir() or not file.exists():
        return {}
    return read_json(file)


def read_json(file: Path) -> dict[str, Any]:
    """An object of JSON.

    Raises:
        ValueError: where the file holds none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{file} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is damaged: it holds no object")
    return content


def _safetensors_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    indices = sorted(path.glob("*.safetensors.index*.json"))
    if len(indices) > 1:
        raise ValueError(f"{path} holds several checkpoints ({', '.join(file.name for file in indices)}): name a file")
    if not indices:  # what stands beside a model of diffusers is not of it
        own = path / f"{STEM}.safetensors"
        return [own] if own.exists() else sorted(path.glob("*.safetensors"))
    try:
        names = set(read_json(indices[0])["weight_map"].values())
    except (KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{indices[0]} is damaged: it has no field 'weight_map' that lists files") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{indices[0]} is damaged: its field 'weight_map' names {name!r}, no file beside it")
    return [path / name for name in sorted(names)]


def _load(path: Path) -> Any:
    try:
        return torch.load(path, weights_only=True)  # noqa: TID251
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is refused: it holds more than tensors, which could run code ({reason})") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, AttributeError, TypeError, IndexError) as error:
        raise ValueError(f"{path} is damaged ({str(error).splitlines()[0] if str(error) else error!r})") from error


def _place(path: Path, key: str, head: torch.Tensor, size: int) -> Facts:
    """Where a tensor lies in a PyTorch file."""
    storage = head.untyped_storage()
    start = head.storage_offset() * head.dtype.itemsize
    end = start + _span(tuple(head.shape), head.stride()) * head.dtype.itemsize
    first = getattr(storage, "_checkpoint_offset", None)
    if first is None and end > start:
        raise ValueError(f"{path}: nobody knows where {key} lies in it")
    offset = int(first or 0) + int(start)
    if end > storage.nbytes() or offset + end - start > size:
        raise ValueError(f"{path} is damaged: {key} reaches beyond what is stored")
    return Facts(head.dtype, tuple(head.shape), path, offset)


def _span(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Elements from the first to the last of a tensor."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def _state_dict(path: Path, content: Any) -> dict[str, Any]:
    """The state dict in what a file holds."""
    for name in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ValueError(f"{path} holds no state dict, but a {type(content).__name__}")
    return dict(content)

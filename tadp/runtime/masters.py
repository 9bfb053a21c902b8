"""Masters: the 16-bit originals of packed weights, in a memory-mapped safetensors file instead of in memory.

The file is written weight by weight while a model is packed. It belongs to one process, which keeps a lock on it while
it lives: a file nobody holds was left by a crash and is removed at the next start.
"""

import fcntl
import json
import os
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open

_DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
_SUFFIX = ".masters.safetensors"


class SpillWriter:
    """Writes tensors of known shapes one after the other into a safetensors file, so that none has to be kept."""

    def __init__(self, directory: Path, layout: Mapping[str, torch.Tensor]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        remove_abandoned(directory)
        self.path, self._file = _locked_file(directory)
        header: dict[str, object] = {}
        offset = 0
        for key, tensor in layout.items():
            if tensor.dtype not in _DTYPES:
                raise ValueError(f"weight {key!r} has type {tensor.dtype}; masters are {', '.join(map(str, _DTYPES))}")
            end = offset + tensor.numel() * tensor.element_size()
            header[key] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
            offset = end
        encoded = json.dumps(header).encode()
        encoded += b" " * (-len(encoded) % 8)
        self._file.write(len(encoded).to_bytes(8, "little") + encoded)
        self._keys = frozenset(layout)
        self._expected = list(layout)

    def write(self, key: str, tensor: torch.Tensor) -> None:
        """Append the next tensor; they must come in the order of the layout."""
        if key != self._expected.pop(0):
            raise ValueError(f"weight {key!r} is out of order")
        flat = tensor.detach().cpu().contiguous().view(-1)
        self._file.write(flat.view(torch.uint8).numpy().data)

    def abort(self) -> None:
        """Give the file up."""
        _remove(self.path, self._file, os.getpid())

    def finish(self) -> "WrittenMasters":
        """Close the file for writing and map it."""
        self._file.flush()
        return WrittenMasters(self.path, self._file, self._keys)


class WrittenMasters:
    """Read access to a file of masters; `get` maps a tensor in, dropping the tensor lets its pages go again.

    Attributes:
        path: of the file.
        keys: the layers whose masters it holds.
    """

    def __init__(self, path: Path, lock: BinaryIO, keys: frozenset[str]) -> None:
        self.path, self.keys = path, keys
        self._finalizer = weakref.finalize(self, _remove, path, lock, os.getpid())

    def get(self, key: str, device: torch.device) -> torch.Tensor:
        """The master of a layer; on CPUs it is backed by the file, not by memory.

        Raises:
            RuntimeError: where the file is gone or damaged.
        """
        try:
            with safe_open(self.path, framework="pt", device="cpu") as file:
                tensor: torch.Tensor = file.get_tensor(key)
        except (OSError, SafetensorError) as error:
            raise RuntimeError(
                f"the 16-bit master of {key} cannot be read from {self.path} ({error}); the file was removed or "
                "damaged while the model was in use: load the model and compile it again, or stay below 16 bits"
            ) from error
        return tensor.to(device)

    def close(self) -> None:
        """Remove the file; also happens when the object is collected and when the process ends."""
        self._finalizer()


def remove_abandoned(directory: Path) -> list[Path]:
    """Remove the files of processes that are gone; returns what was removed."""
    removed = []
    for path in directory.glob(f"*{_SUFFIX}"):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                removed.append(path)
        except OSError:  # its owner is alive, or another process was quicker
            continue
    return removed


def _locked_file(directory: Path) -> tuple[Path, BinaryIO]:
    """A new file, locked by this process before anybody else took it for abandoned."""
    while True:
        handle, name = tempfile.mkstemp(suffix=_SUFFIX, dir=directory)
        file = os.fdopen(handle, "wb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if Path(name).exists():
            return Path(name), file
        file.close()


def _remove(path: Path, lock: BinaryIO, owner: int) -> None:
    if os.getpid() == owner:  # a forked child that ends must not take the file from its parent
        path.unlink(missing_ok=True)
        lock.close()

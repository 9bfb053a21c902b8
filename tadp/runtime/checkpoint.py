"""Masters in the files that a model was loaded from: what lies there already is not written a second time.

All processes that loaded the same files then share these pages, too.
"""

import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open

from tadp.runtime.masters import WrittenMasters


class CheckpointFile:
    """A safetensors file that stays open: it can be moved, replaced and removed, but not written over.

    Attributes:
        path: that it was found at.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError or SafetensorError for a file that cannot be read."""
        self.path = path.resolve()
        self._handle: BinaryIO = self.path.open("rb")
        weakref.finalize(self, self._handle.close)
        self._stamp = self._now()
        self._content: Any = safe_open(self.path, framework="pt", device="cpu")
        self.keys = frozenset(self._content.keys())

    def get(self, key: str) -> torch.Tensor:
        """A tensor, which is backed by the file.

        Raises:
            OSError: where it was written over.
        """
        if self._now() != self._stamp:
            raise OSError("it was written over")
        tensor: torch.Tensor = self._content.get_tensor(key)
        return tensor

    def _now(self) -> tuple[int, int]:
        known = os.fstat(self._handle.fileno())
        return known.st_size, known.st_mtime_ns


@dataclass(frozen=True)
class Place:
    """A tensor of a file."""

    file: CheckpointFile
    key: str


def find_places(directories: Iterable[Path], weights: Mapping[str, torch.Tensor]) -> dict[str, Place]:
    """Where weights lie, by layer: those that a file holds bit for bit. Others, such as fused ones, are left out.

    Args:
        directories: whose safetensors files are looked through.
        weights: by layer; a file has them under the layer's name and ".weight".
    """
    found: dict[str, Place] = {}
    for path in (path for directory in directories for path in sorted(directory.glob("*.safetensors"))):
        try:
            file = CheckpointFile(path)
            for layer, weight in weights.items():
                key = f"{layer}.weight"
                if layer not in found and key in file.keys and _is(file.get(key), weight):
                    found[layer] = Place(file, key)
        except (OSError, SafetensorError):
            continue  # what cannot be read is written instead
    return found


class CheckpointMasters:
    """Read access to masters, most of which lie in a checkpoint.

    Copies of a model share them. A pickle does not hold them, as they are files of this machine.
    """

    def __init__(
        self,
        places: Mapping[str, Place] = MappingProxyType({}),
        written: WrittenMasters | None = None,
        others: "CheckpointMasters | None" = None,
        without: frozenset[str] = frozenset(),
        changes: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = MappingProxyType({}),
    ) -> None:
        """Masters at `places`; those that have none are in `written`, or else in `others`.

        Layers in `without` have none. What is read of a layer in `changes` goes through its function.
        """
        self._places = dict(places)
        self._written = written
        self._others = others
        self._without = without
        self._changes = dict(changes)

    def __deepcopy__(self, memo: object) -> "CheckpointMasters":
        return self

    def __reduce__(self) -> tuple[type["CheckpointMasters"], tuple[()]]:
        return CheckpointMasters, ()

    def holds(self, key: str) -> bool:
        """Whether the master of a layer is there."""
        if key in self._without:
            return False
        written = self._written is not None and key in self._written.keys
        return key in self._places or written or (self._others is not None and self._others.holds(key))

    @property
    def unchanged(self) -> "CheckpointMasters":
        """These masters, before `changed`."""
        return self._others if self._changes and self._others is not None else self

    def changed(self, changes: Mapping[str, Callable[[torch.Tensor], torch.Tensor]]) -> "CheckpointMasters":
        """The same masters, of which some are changed whenever they are read."""
        return CheckpointMasters(others=self, changes=changes) if changes else self

    def without(self, keys: Iterable[str]) -> "CheckpointMasters":
        """The same masters, but for those of some layers."""
        return CheckpointMasters(others=self, without=frozenset(keys))

    def get(self, key: str, device: torch.device) -> torch.Tensor:
        """The master of a layer; on CPUs it is backed by its file, not by memory.

        Raises:
            RuntimeError: where the file was written over since the model was loaded.
        """
        if key in self._changes:
            assert self._others is not None
            return self._changes[key](self._others.get(key, device))
        place = self._places.get(key)
        if place is None and self._written is not None and key in self._written.keys:
            return self._written.get(key, device)
        if place is None:
            assert self._others is not None
            return self._others.get(key, device)
        try:
            return place.file.get(place.key).to(device)
        except (OSError, SafetensorError) as error:
            raise RuntimeError(
                f"the 16-bit weight of {key} cannot be read from {place.file.path} ({error}), which the model was "
                "loaded from: load the model and compile it again, or stay below 16 bits"
            ) from error


def _is(stored: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether both have the same type, shape and bits."""
    if stored.dtype != weight.dtype or stored.shape != weight.shape:
        return False
    bits = (tensor.detach().cpu().contiguous().view(torch.uint8) for tensor in (stored, weight))
    return torch.equal(*bits)

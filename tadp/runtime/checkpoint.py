"""Masters in the files that a model was loaded from: what lies there already is not written a second time.

All processes that loaded the same files then share these pages, too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from tadp.runtime.masters import WrittenMasters


@dataclass(frozen=True)
class Place:
    """A tensor of a safetensors file.

    Attributes:
        path: of the file.
        key: of the tensor in it.
        nbytes: of the tensor.
        stamp: size of the file, and when it was changed last.
    """

    path: Path
    key: str
    nbytes: int
    stamp: tuple[int, int]


def find_places(directories: Iterable[Path], weights: Mapping[str, torch.Tensor]) -> dict[str, Place]:
    """Where weights lie, by layer: those that a file holds bit for bit. Others, such as fused ones, are left out.

    Args:
        directories: whose safetensors files are looked through.
        weights: by layer; a file has them under the layer's name and ".weight".
    """
    found: dict[str, Place] = {}
    for path in (path for directory in directories for path in sorted(directory.glob("*.safetensors"))):
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                keys = set(file.keys())
                for layer, weight in weights.items():
                    key = f"{layer}.weight"
                    if layer not in found and key in keys and _is(file.get_tensor(key), weight):
                        found[layer] = Place(path, key, weight.numel() * weight.element_size(), _stamp(path))
        except (OSError, SafetensorError):
            continue  # what cannot be read is written instead
    return found


class CheckpointMasters:
    """Read access to masters, most of which lie in a checkpoint.

    Attributes:
        nbytes: of all masters together.
    """

    def __init__(self, places: Mapping[str, Place], others: WrittenMasters | None) -> None:
        """`others` has the layers that have no place."""
        self._places = dict(places)
        self._others = others
        self.nbytes = sum(place.nbytes for place in places.values()) + (0 if others is None else others.nbytes)

    def get(self, key: str, device: torch.device) -> torch.Tensor:
        """The master of a layer; on CPUs it is backed by its file, not by memory.

        Raises:
            RuntimeError: where the file is gone, damaged, or another one than the model was loaded from.
        """
        place = self._places.get(key)
        if place is None:
            assert self._others is not None
            return self._others.get(key, device)
        try:
            if _stamp(place.path) != place.stamp:
                raise OSError("it was changed")
            with safe_open(place.path, framework="pt", device="cpu") as file:
                tensor: torch.Tensor = file.get_tensor(place.key)
        except (OSError, SafetensorError) as error:
            raise RuntimeError(
                f"the 16-bit weight of {key} cannot be read from {place.path} ({error}), which the model was loaded "
                "from: load the model and compile it again, or stay below 16 bits"
            ) from error
        return tensor.to(device)


def _stamp(path: Path) -> tuple[int, int]:
    known = path.stat()
    return known.st_size, known.st_mtime_ns


def _is(stored: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether both have the same type, shape and bits."""
    if stored.dtype != weight.dtype or stored.shape != weight.shape:
        return False
    bits = (tensor.detach().cpu().contiguous().view(torch.uint8) for tensor in (stored, weight))
    return torch.equal(*bits)

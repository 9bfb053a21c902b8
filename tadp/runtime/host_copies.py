"""Planes in main memory, kept while a model that moves to and fro is on another device.

Planes never change, so what came back from a device once need not come back again: the copy there is dropped, and what
was kept is used. A model that moves to a device and stays keeps nothing here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from tadp.runtime.pool import PlaneWeight

WeightT = TypeVar("WeightT", bound=PlaneWeight)

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Kept:
    """A layer's planes in main memory, and what told their copy on the device from any other when it was made."""

    weight: PlaneWeight
    copied: tuple[tuple[int, int], ...] = ()


class HostCopies:
    """Moves weights, each layer's by itself."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    @property
    def layers(self) -> frozenset[str]:
        """The layers whose planes are kept."""
        return frozenset(self._kept)

    def move(
        self, layer: str, weight: WeightT, device: torch.device, copy: Callable[[WeightT, torch.device], WeightT]
    ) -> WeightT:
        """A layer's weight on a device.

        Args:
            layer: its path.
            weight: where it is now.
            device: where it is to be.
            copy: copies a weight to a device.
        """
        kept = self._kept.get(layer)
        if device == _CPU:
            if kept is None or not kept.copied or kept.copied != _marks(weight):  # came first, or was written to
                kept = _Kept(copy(weight, device))
            self._kept[layer] = _Kept(kept.weight)
            return kept.weight  # type: ignore[return-value]
        moved = copy(weight, device)
        if kept is not None:
            self._kept[layer] = _Kept(kept.weight, _marks(moved))
        return moved


def _marks(weight: PlaneWeight) -> tuple[tuple[int, int], ...]:
    """Address and number of changes of each tensor; nothing where changes are not counted."""
    parts = (weight.high, weight.mid, weight.low, weight.scale)
    if any(part.is_inference() for part in parts):
        return ()
    return tuple((part.data_ptr(), part._version) for part in parts)

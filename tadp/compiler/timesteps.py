"""The timestep of a forward, read from its arguments."""

from collections.abc import Mapping

import torch

from tadp.families.family import TIMESTEP_NAMES

_Place = tuple[int, int, torch.Size, tuple[int, ...]]


class TimestepReader:
    """Reads timesteps, and each tensor that holds one only once.

    Reading a tensor of a GPU waits for all that runs there. The guidance branches of a step are called with views of
    the same element, so the second one need not wait again. What was read is kept alive: no other tensor can then lie
    in its place.
    """

    def __init__(self, names: tuple[str, ...] = TIMESTEP_NAMES) -> None:
        """Timesteps are arguments of these names, the first that is there."""
        self._names = names
        self._kept: torch.Tensor | None = None
        self._place: _Place | None = None
        self._value = 0.0

    def read(self, arguments: Mapping[str, object]) -> float | None:
        """The timestep; of several, one for each sample or token, the largest. None where there is none."""
        for name in self._names:
            value = arguments.get(name)
            if isinstance(value, torch.Tensor) and value.numel():
                return self._of(value)
            if isinstance(value, (int, float)):
                return float(value)
        return None

    def _of(self, value: torch.Tensor) -> float:
        if value.is_inference():  # such tensors do not count their changes
            return _largest(value)
        place = (value.data_ptr(), value._version, value.shape, value.stride())
        if self._kept is None or place != self._place or value.dtype != self._kept.dtype:
            self._kept, self._place, self._value = value, place, _largest(value)
        return self._value


def _largest(value: torch.Tensor) -> float:
    return float(value.max() if value.numel() > 1 else value)

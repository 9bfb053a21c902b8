"""Memory that kernels of Triton must not touch, watched in the interpreter.

While ``watched`` runs, every tensor that a kernel is given is copied into a buffer of its own, between two zones of
poison, and every address that it loads from or stores to has to lie within the storage of one of them. So a read behind
an end is an error even where nothing is made of what was read, as it would be on a GPU at the end of an allocation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from triton.runtime import interpreter
from triton.tools.tensor_descriptor import TensorDescriptor

_ZONE = 1 << 13
"""Bytes on either side, so that one step too far from a tensor of these tests does not end in another."""

_POISON = 0x7F
"""Of all bytes: large integers, and numbers of 1e38 or NaN in floating types."""

_ALIGNED = 64


class OutsideError(Exception):
    """A kernel touched memory that belongs to none of its arguments."""


class _Memory:
    """The guarded copies of one launch's arguments."""

    def __init__(self) -> None:
        self._copies: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def guard(self, argument: Any) -> Any:
        """The argument with its tensors copied."""
        if isinstance(argument, tuple):
            return tuple(map(self.guard, argument))
        if isinstance(argument, TensorDescriptor):
            base = self.guard(argument.base)
            return TensorDescriptor(base, argument.shape, argument.strides, argument.block_shape)
        return self._copy(argument) if isinstance(argument, torch.Tensor) else argument

    def _copy(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        raw = torch.empty(0, dtype=torch.uint8).set_(storage)
        if storage.data_ptr() not in self._copies:
            shift = storage.data_ptr() % _ALIGNED
            buffer = torch.full((2 * _ZONE + _ALIGNED + raw.numel(),), _POISON, dtype=torch.uint8)
            shift += -buffer.data_ptr() % _ALIGNED
            inside = buffer[_ZONE + shift : _ZONE + shift + raw.numel()]
            inside.copy_(raw)
            self._copies[storage.data_ptr()] = raw, inside
        inside = self._copies[storage.data_ptr()][1]
        place = inside.storage_offset() + tensor.storage_offset() * tensor.itemsize
        return torch.empty(0, dtype=tensor.dtype).set_(
            inside.untyped_storage(), place // tensor.itemsize, tensor.shape, tensor.stride()
        )

    def write_back(self) -> None:
        """Bring what was stored back to where it belongs."""
        for raw, inside in self._copies.values():
            raw.copy_(inside)

    def check(self, what: str, addresses: np.ndarray, mask: np.ndarray, size: int) -> None:
        """That ``size`` bytes at each address lie within one tensor's storage."""
        wanted = addresses[np.broadcast_to(mask, addresses.shape).astype(bool)].astype(np.int64)
        spans = [(copy.data_ptr(), copy.data_ptr() + copy.numel()) for _, copy in self._copies.values()]
        if wanted.size == 0 or any(start <= wanted.min() and wanted.max() + size <= end for start, end in spans):
            return
        inside = np.zeros(wanted.shape, dtype=bool)
        for start, end in spans:
            inside |= (wanted >= start) & (wanted + size <= end)
        if not inside.all():
            raise OutsideError(f"{what} of {np.count_nonzero(~inside)} elements outside of all arguments")


class _Checked:
    """Triton's functions on raw memory, each access checked first."""

    def __init__(self, plain: Any, memory: list[_Memory]) -> None:
        self._plain, self._memory = plain, memory

    def load(self, addresses: np.ndarray, mask: np.ndarray, other: np.ndarray, dtype: np.dtype) -> np.ndarray:
        self._memory[-1].check("a load", addresses, mask, np.dtype(dtype).itemsize)
        return self._plain.load(addresses, mask, other, dtype)  # type: ignore[no-any-return]

    def store(self, addresses: np.ndarray, values: np.ndarray, mask: np.ndarray) -> None:
        self._memory[-1].check("a store", addresses, mask, values.dtype.itemsize)
        self._plain.store(addresses, values, mask)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)


@contextmanager
def watched() -> Iterator[list[_Memory]]:
    """Run kernels under guard; gives the memory of every launch so far, the last of which is that of the latest."""
    launches: list[_Memory] = []

    def enter(executor: Any, args: Any, kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
        launches.append(_Memory())
        guard = launches[-1].guard
        return [guard(argument) for argument in args], {name: guard(value) for name, value in kwargs.items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interpreter, "_interpreter", _Checked(interpreter._interpreter, launches))
        patch.setattr(interpreter.GridExecutor, "_init_args_hst", enter)
        patch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *_: launches[-1].write_back())
        yield launches

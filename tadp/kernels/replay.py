"""What a launcher did once, done again for arguments of the same kind, without asking everything anew.

A launcher of GPU kernels checks its arguments, reads a kernel's name, cuts work into programs, allocates, and has
Triton find the compiled kernel: many times what starting a kernel takes. All of it follows from shapes, types, strides,
devices and alignment of the arguments. So the first call of a kind is recorded, as allocations, views and starts of
compiled kernels (recording.py), and later ones replay that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

_MOST = 4096
"""Records that are kept; a model has one for each shape and kernel of its layers."""

_TRIES = 3
"""How often a kind of calls is recorded in vain, which takes longer than the call, until it is left alone."""

Kind = tuple[Any, ...]
Step = Callable[[list[Any]], None]

_RECORDS: dict[Kind, "Record"] = {}
_TRIED: dict[Kind, int] = {}


def kind_of(operator: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> Kind:
    """What a call's launches depend on: calls of one kind differ in their tensors' contents and addresses only."""
    parts = [
        (each.shape, each.is_contiguous() or each.stride(), each.dtype, each.get_device(), each.data_ptr() & 15)
        if isinstance(each, torch.Tensor)
        else each
        for each in arguments
    ]
    if named:
        return (*kind_of(operator, (*arguments, *named.values()), {}), *named)
    return (operator, *parts)


@dataclass(frozen=True)
class Record:
    """What a call of a kind does.

    Attributes:
        steps: each reads and fills places of a list, whose first places are the call's arguments.
        places: how many of these there are.
        result: the place of what the call returns.
        device: index of the GPU that has to be the current one; None for none.
    """

    steps: tuple[Step, ...]
    places: int
    result: int
    device: int | None

    def replay(self, arguments: Sequence[Any]) -> torch.Tensor:
        """Do it for arguments of the same kind."""
        values = [*arguments, *[None] * (self.places - len(arguments))]
        if self.device is None or self.device == torch.cuda.current_device():
            for step in self.steps:
                step(values)
        else:
            with torch.cuda.device(self.device):
                for step in self.steps:
                    step(values)
        result: torch.Tensor = values[self.result]
        return result


def known(kind: Kind) -> Record | None:
    """The record of a kind of calls, if there is one."""
    return _RECORDS.get(kind)


def count() -> int:
    """How many kinds of calls are recorded."""
    return len(_RECORDS)


def forget(kind: Kind | None = None) -> None:
    """Let the next call of a kind, or of every kind, find out anew what to do."""
    if kind is None:
        _RECORDS.clear()
        _TRIED.clear()
    else:
        _RECORDS.pop(kind, None)


@contextmanager
def off() -> Iterator[None]:
    """Record and replay nothing in this process: for measuring what that saves."""
    global _MOST
    most, _MOST = _MOST, 0
    forget()
    try:
        yield
    finally:
        _MOST = most


def is_worth_recording(kind: Kind) -> bool:
    """Whether a kind that is not known is to be recorded: it was not tried in vain too often."""
    return _MOST > 0 and _TRIED.get(kind, 0) < _TRIES


def keep(kind: Kind, record: Record | None) -> None:
    """Remember how calls of a kind are done; None where recording one failed."""
    if max(len(_RECORDS), len(_TRIED)) >= _MOST:
        forget()
    if record is None:
        _TRIED[kind] = _TRIED.get(kind, 0) + 1
    else:
        _RECORDS[kind] = record

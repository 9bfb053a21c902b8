"""Seeing what a call does, so that replay.py can do it again: operations of torch, and starts of kernels."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tadp.kernels.replay import Kind, Record, Step, is_worth_recording, keep

_LIBRARY = frozenset({"mm", "addmm", "bmm", "baddbmm"})
"""Operations that no record holds: they take longer than finding out what to do, and may depend on settings."""

_RECORDING: ContextVar["_Recorder | None"] = ContextVar("tadp_recording", default=None)


def recorded(kind: Kind, arguments: Sequence[Any], run: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Run a call and record what it does, if that can be done again.

    Args:
        kind: of the call.
        arguments: all of them, in the order in which `Record.replay` will get those of later calls.
        run: the call.
    """
    tensors = [id(each) for each in arguments if isinstance(each, torch.Tensor)]
    twice = len(set(tensors)) < len(tensors)  # which later calls of the kind need not do
    if twice or not is_worth_recording(kind):
        return run()
    recorder = _Recorder(arguments)
    with recorder.recording():
        result = run()
    keep(kind, recorder.finish(result))
    return result


def is_recording() -> bool:
    """Whether what this thread starts is being recorded."""
    return _RECORDING.get() is not None


def note_start(start: Callable[..., None] | None, arguments: Sequence[Any]) -> None:
    """Tell the recording that is under way that a kernel was started.

    Args:
        start: starts it again, with arguments in this order; None where that is not possible.
        arguments: the kernel's: numbers, tensors, and objects that describe a tensor, their attribute ``base``.
    """
    recorder = _RECORDING.get()
    assert recorder is not None
    recorder.started(start, arguments)


@dataclass(frozen=True)
class _Done:
    """One thing that a call did: `step` reads `reads` and fills `fills`; with `counts` it has to be done again.

    Allocations and views count only where something else reads them.
    """

    step: Step
    reads: frozenset[int]
    fills: frozenset[int]
    counts: bool


class _Recorder(TorchDispatchMode):
    """Sees every operation of torch and every start of a kernel while a call runs."""

    def __init__(self, arguments: Sequence[Any]) -> None:
        super().__init__()
        self._kept: list[Any] = list(arguments)  # alive meanwhile, so that an id stands for one tensor
        self._place = {id(each): place for place, each in enumerate(arguments) if isinstance(each, torch.Tensor)}
        self._same_memory: dict[int, int] = {}
        self._done: list[_Done] = []
        self._fails = False
        devices = {each.get_device() for each in arguments if isinstance(each, torch.Tensor)}
        self._device = max(devices, default=-1)

    @contextmanager
    def recording(self) -> Iterator[None]:
        token = _RECORDING.set(self)
        try:
            with self:
                yield
        finally:
            _RECORDING.reset(token)

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._note(func, args, kwargs or {}, result)
        return result

    def _note(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        if func is torch.ops.aten.detach.default and id(args[0]) in self._place:  # factories do so under a mode
            self._kept.append(result)
            self._place[id(result)] = self._place[id(args[0])]
            return
        writes = func._schema.is_mutable
        results = (args[0],) if writes else tuple(result) if isinstance(result, (tuple, list)) else (result,)
        read = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
        repeatable = all(id(each) in self._place for each in read) and all(map(torch.is_tensor, results))
        if not repeatable or func.overloadpacket.__name__ in _LIBRARY:
            # Harmless where the call does not depend on it, as with what a kernel's text is made of.
            depends = any(id(each) in self._place for each in read)
            self._fails |= depends and (writes or not all(map(torch.is_tensor, results)))
            return
        reads = frozenset(self._place[id(each)] for each in read)
        fills = tuple(self._place[id(each)] if writes else self._keep(each) for each in results)
        if func._schema.returns[0].alias_info is not None and not writes and _same_memory(args[0], result):
            self._same_memory[fills[0]] = self._where(args[0])
        if func.overloadpacket.__name__ in ("empty", "empty_strided", "new_empty", "empty_like"):
            step = _allocation(result, fills[0])
        else:
            step = _operation(func, self._template(args), {n: self._template(v) for n, v in kwargs.items()}, fills)
        self._done.append(_Done(step, reads, frozenset(fills), counts=writes))

    def started(self, start: Callable[..., None] | None, arguments: Sequence[Any]) -> None:
        tensors = [each for each in map(_tensor_of, arguments) if each is not None]
        if start is None or any(id(each) not in self._place for each in tensors):
            self._fails = True
            return
        reads = frozenset(map(self._where, tensors))
        places = [(index, self._where(each)) for index, each in enumerate(arguments) if isinstance(each, torch.Tensor)]
        described = [
            (index, each, self._where(each.base))
            for index, each in enumerate(arguments)
            if not isinstance(each, torch.Tensor) and _tensor_of(each) is not None
        ]
        constants = [None if _tensor_of(each) is not None else each for each in arguments]
        self._done.append(_Done(_start(start, constants, places, described), reads, frozenset(), counts=True))

    def finish(self, result: torch.Tensor) -> Record | None:
        """What was done, without what nothing needs; None where it cannot be done again."""
        if self._fails or id(result) not in self._place:
            return None
        end = self._place[id(result)]
        wanted = {end}
        steps: list[Step] = []
        for done in reversed(self._done):
            if done.counts or done.fills & wanted:
                steps.append(done.step)
                wanted |= done.reads
        return Record(tuple(reversed(steps)), len(self._kept), end, self._device if self._device >= 0 else None)

    def _keep(self, tensor: torch.Tensor) -> int:
        self._kept.append(tensor)
        self._place[id(tensor)] = len(self._kept) - 1
        return len(self._kept) - 1

    def _where(self, tensor: torch.Tensor) -> int:
        """The place of a tensor, or of one that a kernel cannot tell from it."""
        place = self._place[id(tensor)]
        return self._same_memory.get(place, place)

    def _template(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return _Place(self._place[id(value)])
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._template, value))
        return value


@dataclass(frozen=True)
class _Place:
    """Stands for the tensor in a place."""

    index: int


def _same_memory(first: Any, second: torch.Tensor) -> bool:
    """Whether a kernel, which sees type and address, is given the same by both."""
    return isinstance(first, torch.Tensor) and first.dtype == second.dtype and first.data_ptr() == second.data_ptr()


def _tensor_of(value: Any) -> torch.Tensor | None:
    """A tensor, or the one that a descriptor describes."""
    found = value if isinstance(value, torch.Tensor) else getattr(value, "base", None)
    return found if isinstance(found, torch.Tensor) else None


def _allocation(like: torch.Tensor, place: int) -> Step:
    shape, stride, dtype, device = tuple(like.shape), like.stride(), like.dtype, like.device
    empty = torch.empty if like.is_contiguous() else None

    def step(values: list[Any]) -> None:
        values[place] = (
            torch.empty_strided(shape, stride, dtype=dtype, device=device)
            if empty is None
            else empty(shape, dtype=dtype, device=device)
        )

    return step


def _operation(func: Any, args: Any, kwargs: dict[str, Any], places: tuple[int, ...]) -> Step:
    def step(values: list[Any]) -> None:
        found = func(*_filled(args, values), **{name: _filled(each, values) for name, each in kwargs.items()})
        if len(places) == 1:
            values[places[0]] = found
        else:
            for place, each in zip(places, found, strict=True):
                values[place] = each

    return step


def _filled(template: Any, values: list[Any]) -> Any:
    if isinstance(template, _Place):
        return values[template.index]
    if isinstance(template, (list, tuple)):
        return type(template)(_filled(each, values) for each in template)
    return template


def _start(
    start: Callable[..., None],
    constants: list[Any],
    places: list[tuple[int, int]],
    described: list[tuple[int, Any, int]],
) -> Step:
    bare = [(index, _describing(descriptor, None), place) for index, descriptor, place in described]

    def step(values: list[Any]) -> None:
        given = constants.copy()
        for index, place in places:
            given[index] = values[place]
        for index, descriptor, place in bare:
            given[index] = _describing(descriptor, values[place])
        start(*given)

    return step


def _describing(descriptor: Any, base: torch.Tensor | None) -> Any:
    """A descriptor of another tensor of the same kind."""
    made = copy.copy(descriptor)
    made.base = base
    return made

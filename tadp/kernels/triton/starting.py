"""How launchers start their kernels: all by one function, which can be told to compile them only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import triton
from triton.compiler import CompiledKernel
from triton.runtime import driver

from tadp.kernels import recording

_COMPILING = ContextVar("tadp_compiling", default=False)


def start_kernel(kernel: Any, programs: tuple[int, ...], *arguments: Any, **named: Any) -> None:
    """Start a Triton kernel, or within ``only_compiling`` compile it.

    Args:
        kernel: a function under ``triton.jit``.
        programs: how many, in up to three dimensions.
        arguments: the kernel's own, tensors and numbers.
        named: its compile-time arguments, and what the compiler is told.
    """
    if _COMPILING.get():
        kernel.warmup(*arguments, grid=programs, **named)
        return
    compiled = kernel[programs](*arguments, **named)
    if recording.is_recording():
        recording.note_start(*_again(kernel, compiled, programs, arguments, named))


def _again(
    kernel: Any, compiled: Any, programs: tuple[int, ...], arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[Any, list[Any]]:
    """What starts a compiled kernel without Triton's search for it, and its arguments in the order of its signature."""
    if not isinstance(compiled, CompiledKernel):  # as in the interpreter
        return None, []
    own = dict(zip(kernel.arg_names, arguments, strict=False)) | {
        name: value for name, value in named.items() if name in kernel.arg_names
    }
    return _starter(compiled, (*programs, 1, 1)[:3]), [own[name] for name in kernel.arg_names]


def _starter(compiled: CompiledKernel, grid: tuple[int, ...]) -> Callable[..., None]:
    """Starts a compiled kernel on the current device and stream, its arguments in the order of its signature."""
    run, function, metadata = compiled.run, compiled.function, compiled.packed_metadata
    with_hooks, (first, second, third) = compiled[grid], grid

    def start(*arguments: Any) -> None:
        if _is_hooked(triton.knobs.runtime.launch_enter_hook) or _is_hooked(triton.knobs.runtime.launch_exit_hook):
            with_hooks(*arguments)
            return
        active = driver.active
        stream = active.get_current_stream(active.get_current_device())
        run(first, second, third, stream, function, metadata, None, None, None, *arguments)

    return start


def _is_hooked(hook: Any) -> bool:
    """Whether a profiler, for instance, wants to know of launches; a chain of no calls wants nothing."""
    return hook is not None and bool(getattr(hook, "calls", True))


@contextmanager
def only_compiling() -> Iterator[None]:
    """Let the launchers that this thread calls compile their kernels and start none; tensors need no memory."""
    before = _COMPILING.set(True)
    try:
        yield
    finally:
        _COMPILING.reset(before)

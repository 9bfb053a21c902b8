"""How launchers start their kernels: all by one function, which can be told to compile them only."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

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
    else:
        kernel[programs](*arguments, **named)


@contextmanager
def only_compiling() -> Iterator[None]:
    """Let the launchers that this thread calls compile their kernels and start none; tensors need no memory."""
    before = _COMPILING.set(True)
    try:
        yield
    finally:
        _COMPILING.reset(before)

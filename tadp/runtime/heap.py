"""Memory that the allocator of the C library holds on to; docs/decisions/0010 has what it came to.

PyTorch allocates tensors on CPUs at addresses that are multiples of 64. Up to version 2.37 glibc can rarely use what is
freed of such an allocation for the next one of the same size (its bug 14581), and a process that runs compiled pieces
with their many short-lived tensors grows by megabytes with every forward.
"""

import ctypes
import functools
import platform
from collections.abc import Callable

_FIXED_IN = (2, 38)


def give_back_freed_memory() -> None:
    """Return free pages to the system, where the allocator would never use them again; else do nothing."""
    if (trim := _trim()) is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], object] | None:
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(int(part) for part in version.split(".")[:2]) >= _FIXED_IN:
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)

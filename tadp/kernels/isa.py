"""The instruction sets of the CPU kernels, and how to run with one that is not the best."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

NAMES = ("portable", "avx2", "avxvnni", "avx512vnni")
"""From the slowest to the fastest, as csrc/cpu/isa.h has them."""


@contextmanager
def cpu_isa(name: str) -> Iterator[None]:
    """Run with one instruction set.

    Raises:
        RuntimeError: for a set that there is not, or that this processor lacks.
    """
    before = torch.ops.tadp.force_cpu_isa(name)
    try:
        yield
    finally:
        torch.ops.tadp.force_cpu_isa(before)


@cache
def is_available(name: str) -> bool:
    """Whether this processor has an instruction set."""
    try:
        with cpu_isa(name):
            return True
    except RuntimeError:
        return False

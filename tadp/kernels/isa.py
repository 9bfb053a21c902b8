"""The instruction sets of the CPU kernels, and how to run with one that is not the best."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

NAMES = ("portable", "avx2", "avxvnni", "avx512vnni")
"""From the slowest to the fastest, as csrc/cpu/isa.h has them."""


@contextmanager
def cpu_isa(name: str) -> Iterator[None]:
    """Run with one instruction set: the library reads the variable at every call, and refuses a set that is missing."""
    before = os.environ.get("TADP_CPU_ISA")
    os.environ["TADP_CPU_ISA"] = name
    try:
        yield
    finally:
        del os.environ["TADP_CPU_ISA"]
        if before is not None:
            os.environ["TADP_CPU_ISA"] = before


def is_available(name: str) -> bool:
    """Whether this processor has an instruction set."""
    with cpu_isa(name):
        try:
            return bool(torch.ops.tadp.cpu_isa() == name)
        except RuntimeError:
            return False

"""Kernels for NVIDIA GPUs, in Triton. Nothing here imports triton before a kernel is asked for: it is optional."""

import functools

import torch

_FIRST_CAPABILITY = (8, 0)
"""Ampere: Triton supports nothing older."""


def too_old(capability: tuple[int, int]) -> str | None:
    """Why these kernels do not serve GPUs of a compute capability; None where they do."""
    if capability >= _FIRST_CAPABILITY:
        return None
    return "Triton needs compute capability {}.{}, and this GPU has {}.{}".format(*_FIRST_CAPABILITY, *capability)


@functools.cache
def missing() -> str | None:
    """Why these kernels cannot be had in this process; None where they can."""
    if torch.version.hip is not None:  # torch calls AMD's GPUs "cuda" too
        return "these kernels hold PTX, which AMD's GPUs do not run"
    try:
        import triton  # noqa: F401
    except ImportError:
        return "Triton is not installed"
    return None


def capability_of(device: torch.device) -> tuple[int, int]:
    """The compute capability of a GPU; where there is none, as in Triton's interpreter, Hopper's."""
    return _capability(device) if device.type == "cuda" else (9, 0)


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)

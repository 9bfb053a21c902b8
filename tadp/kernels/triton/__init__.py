"""Kernels for NVIDIA GPUs, in Triton. Nothing here imports triton before a kernel is asked for: it is optional."""

import functools

import torch

_FIRST_CAPABILITY = (8, 0)
"""Ampere: Triton supports nothing older."""


def is_used(device: torch.device | None = None) -> bool:
    """Whether these kernels serve a GPU; without one given the current one, or any where the machine has none."""
    if not _is_importable():
        return False
    if device is None:
        if not torch.cuda.is_available():
            return True
        device = torch.device("cuda", torch.cuda.current_device())
    return _capability(device) >= _FIRST_CAPABILITY


def capability_of(device: torch.device) -> tuple[int, int]:
    """The compute capability of a GPU; where there is none, as in Triton's interpreter, Hopper's."""
    return _capability(device) if device.type == "cuda" else (9, 0)


@functools.cache
def _is_importable() -> bool:
    if torch.version.hip is not None:  # torch calls AMD's GPUs "cuda" too, and these kernels hold PTX
        return False
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)

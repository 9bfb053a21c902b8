"""Memory of the device that a model is on."""

import os

import torch

FOR_ACTIVATIONS = 0.1
"""Share of a GPU's memory that 16-bit weights leave to everything else."""


def free_bytes(device: torch.device | None) -> int | None:
    """Bytes that the driver of a GPU reports as free; None for other devices and where the device is not known."""
    if device is None or device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free


def fits(nbytes: int, device: torch.device) -> bool:
    """Whether a GPU has room for so many bytes more and still a tenth of its memory for activations.

    What PyTorch's allocator holds and nothing uses counts as free. Other devices always have room.
    """
    if device.type != "cuda":
        return True
    free, total = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + unused - nbytes >= FOR_ACTIVATIONS * total


def copies_masters(device: torch.device) -> bool:
    """Whether a 16-bit weight in a file has to be copied before a device can read it; a CPU maps it."""
    return device.type != "cpu"


def available_bytes(device: torch.device | None) -> int:
    """Bytes that may still be allocated on a device; None and other devices than GPUs stand for the machine's memory.

    What the operating system holds in caches does not count, so that it is rather too little than too much.
    """
    free = free_bytes(device)
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if free is None else free

"""Memory of the device that a model is on."""

import os

import torch


def free_bytes(device: torch.device | None) -> int | None:
    """Bytes that the driver of a GPU reports as free; None for other devices and where the device is not known."""
    if device is None or device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free


def available_bytes(device: torch.device | None) -> int:
    """Bytes that may still be allocated on a device; None and other devices than GPUs stand for the machine's memory.

    What the operating system holds in caches does not count, so that it is rather too little than too much.
    """
    free = free_bytes(device)
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if free is None else free

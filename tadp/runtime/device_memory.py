"""Memory of the device that a model is on."""

import torch


def free_bytes(device: torch.device | None) -> int | None:
    """Bytes that the driver of a GPU reports as free; None for other devices and where the device is not known."""
    if device is None or device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return free

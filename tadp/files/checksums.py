"""A checksum of a tensor that takes little longer than reading it."""

import torch

_ROW = 4096  # words that are added up before positions count


def checksum(tensor: torch.Tensor) -> str:
    """Sixteen hex digits that change with any damage to a tensor's bytes, and where runs of them change places.

    The bytes are added up as 64-bit words, run by run, and each run's sum is multiplied by an odd number of its own. No
    protection against people who want a collision: files are data, and nothing in them is executed.

    Args:
        tensor: of any type and shape, on any device.
    """
    content = tensor.detach().contiguous().view(-1).view(torch.uint8)
    whole = content.numel() // 8 * 8
    words = content[:whole].view(torch.int64) if content.storage_offset() % 8 == 0 else _aligned(content[:whole])
    rows = words.numel() // _ROW
    sums = [words[: rows * _ROW].view(rows, _ROW).sum(1), words[rows * _ROW :].sum().view(1)]
    if whole < content.numel():
        rest = content[whole:].to(torch.int64)
        sums.append((rest << 8 * torch.arange(len(rest), device=rest.device)).sum().view(1))
    parts = torch.cat(sums)
    total = int((parts * (2 * torch.arange(len(parts), device=parts.device) + 1)).sum()) + content.numel()
    return f"{total % 2**64:016x}"


def _aligned(content: torch.Tensor) -> torch.Tensor:
    return content.clone().view(torch.int64)

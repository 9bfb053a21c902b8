"""A checksum of a tensor that takes little longer than reading it."""

import torch

_COLUMNS = 4096
_SPREAD = 2 * 0x1E3779B97F4A7C15  # without a pattern: sums of columns count otherwise than sums of rows


def checksum(tensor: torch.Tensor) -> str:
    """Sixteen hex digits that change where bytes of a tensor change, or change places.

    The bytes are taken as a matrix of 64-bit words, rows of 4,096. The sum of every row is multiplied by an odd number
    of its own, that of every column by an even one, and all is added up modulo 2^64: each word counts by an odd number,
    so that a change of one word is always seen. No protection against people who want a collision: files are data, and
    nothing in them is executed.

    Args:
        tensor: of any type and shape, on any device.
    """
    content = tensor.detach().contiguous().view(-1).view(torch.uint8)
    if content.storage_offset() % 8:
        content = content.clone()
    whole = content.numel() // (8 * _COLUMNS) * (8 * _COLUMNS)
    rows = content[:whole].view(torch.int64).view(-1, _COLUMNS)
    rest = torch.zeros(8 * _COLUMNS, dtype=torch.uint8, device=content.device)
    rest[: content.numel() - whole] = content[whole:]
    last = rest.view(torch.int64)
    by_row = torch.cat([rows.sum(1), last.sum().view(1)])
    by_column = rows.sum(0) + last
    numbers = torch.arange(len(by_row), device=content.device)
    total = int((by_row * (2 * numbers + 1)).sum())
    numbers = torch.arange(1, _COLUMNS + 1, device=content.device)
    total += _SPREAD * int((by_column * numbers).sum()) + content.numel()
    return f"{total % 2**64:016x}"

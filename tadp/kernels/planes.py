"""How eight-bit weight codes are chosen, and how they are cut into bit planes; formats.py says what codes stand for."""

import torch

from tadp.kernels.formats import CODE_BITS, FORMATS, GROUP_SIZES, PLANE_BITS

_ROWS_AT_ONCE = 1024
"""Weights are encoded in slices, so that packing a layer needs little more memory than the layer."""


def encode(weight: torch.Tensor, group_size: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Round each row, or each group of columns of each row, to eight-bit codes under one scale.

    Args:
        weight: ``(rows, columns)``, floating, finite.
        group_size: columns that share a scale; None for all columns of a row.

    Returns:
        Codes ``(rows, columns)``, uint8, and scales, float32: ``(rows,)``, or ``(rows, groups)`` with a group size. A
        scale is negative where the largest positive value exceeds the largest negative one, and 0 where all values are
        zero or below float32's normal range: no code stands for zero at 6 and 4 bits.
    """
    rows, columns = weight.shape
    if group_size is not None:
        groups = columns // group_size
        quarters = weight.reshape(rows, 4, groups, group_size // 4)
        codes, scale = encode(quarters.transpose(1, 2).reshape(rows * groups, group_size))
        codes = codes.view(rows, groups, 4, group_size // 4).transpose(1, 2).reshape(rows, columns)
        return codes, laid_out_by_group(scale.view(rows, groups))
    codes = torch.empty(rows, columns, dtype=torch.uint8, device=weight.device)
    scale = torch.zeros(rows, dtype=torch.float32, device=weight.device)
    if columns == 0:
        return codes, scale
    zero = FORMATS[CODE_BITS].zero_point
    for start in range(0, rows, _ROWS_AT_ONCE):
        part = weight[start : start + _ROWS_AT_ONCE].float()
        positive, negative = part.amax(1).clamp(min=0), (-part.amin(1)).clamp(min=0)
        # Half a step beyond the outermost codes still rounds to them.
        wide = torch.maximum(positive, negative) / (zero + 0.5)
        narrow = torch.minimum(positive, negative) / (255 - zero + 0.5)
        size = torch.maximum(wide, narrow)
        size = torch.where(positive > negative, -size, size)
        usable = size.abs() >= torch.finfo(torch.float32).tiny
        scale[start : start + _ROWS_AT_ONCE] = size.where(usable, 0)
        steps = (part / size[:, None]).round_().add_(zero).clamp_(0, 255)
        codes[start : start + _ROWS_AT_ONCE] = steps.masked_fill_(~usable[:, None], zero).to(torch.uint8)
    return codes, scale


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity, in one pass: NaN passes through the smallest and the largest."""
    return tensor.numel() == 0 or bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def group_count(columns: int, group_size: int | None) -> int:
    """Scales of a row: one for each group where the size divides the columns, else 0, which stands for a single one.

    Raises:
        ValueError: for a size that groups cannot have.
    """
    if group_size not in (None, *GROUP_SIZES):
        raise ValueError(f"groups are of {' or '.join(map(str, GROUP_SIZES))} columns, not of {group_size}")
    return columns // group_size if group_size and columns % group_size == 0 else 0


def laid_out_by_group(scale: torch.Tensor) -> torch.Tensor:
    """The same scales ``(rows, groups)``, in memory group by group, as kernels read them: for many rows at a time."""
    return scale.t().contiguous().t()


def group_of_columns(columns: int, groups: int) -> torch.Tensor:
    """The group that each column of a weight belongs to, where several scales share a row: ``(columns,)`` int64.

    A group is the columns that stand in ``padded / 4 / groups`` neighbouring bytes of ``mid``, hence a run of columns
    from each quarter. What a kernel unpacks in one step then has one scale.
    """
    quarter = padded_columns(columns) // 4
    return torch.arange(columns) % quarter // (quarter // groups)


def padded_columns(columns: int) -> int:
    """Columns as stored: a multiple of four."""
    return -(-columns // 4) * 4


def plane_shape(plane: str, rows: int, columns: int) -> tuple[int, int]:
    """Shape of a plane of a ``(rows, columns)`` weight."""
    return rows, padded_columns(columns) * PLANE_BITS[plane] // CODE_BITS


def cut(codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cut codes into planes.

    The columns, padded with zeros to P, a multiple of four, form four quarters. Byte j of ``mid`` and of ``low`` holds
    two bits of columns j, j + P/4, j + P/2 and j + 3P/4, from its lowest bits on; byte j of ``high`` holds four bits of
    columns j and j + P/2. Bytes that stand side by side thus unpack into neighbouring columns with shifts and masks
    alone, on vector units and GPUs alike.

    Args:
        codes: ``(rows, columns)``, uint8.

    Returns:
        ``high`` ``(rows, P/2)``: the top four bits; ``mid`` and ``low`` ``(rows, P/4)``: the next two and the last two.
    """
    rows, columns = codes.shape
    padded = padded_columns(columns)
    if padded != columns:
        codes = torch.nn.functional.pad(codes, (0, padded - columns))
    found, place = [], CODE_BITS
    for bits in PLANE_BITS.values():
        place -= bits
        count = CODE_BITS // bits
        first, *others = (codes >> place & 2**bits - 1).view(rows, count, padded // count).unbind(1)
        for index, part in enumerate(others, 1):
            first = first | part << index * bits
        found.append(first)
    high, mid, low = found
    return high, mid, low


def join(high: torch.Tensor, mid: torch.Tensor | None, low: torch.Tensor | None, columns: int) -> torch.Tensor:
    """Put planes together again: ``(rows, columns)`` codes u_b, uint8, as wide as the given planes allow."""
    codes = torch.zeros((), dtype=torch.uint8, device=high.device)
    for plane, bits in zip((high, mid, low), PLANE_BITS.values(), strict=True):
        if plane is not None:
            parts = [plane >> shift & 2**bits - 1 for shift in range(0, CODE_BITS, bits)]
            codes = codes << bits | torch.stack(parts, 1).view(plane.shape[0], padded_columns(columns))
    return codes[:, :columns]


def width_of(mid: torch.Tensor | None, low: torch.Tensor | None) -> int:
    """The width that a set of planes amounts to.

    Raises:
        ValueError: if ``low`` is given without ``mid``.
    """
    if low is not None and mid is None:
        raise ValueError("the low plane needs the mid plane before it")
    given = 1 + (mid is not None) + (low is not None)
    return next(row.width for row in FORMATS.values() if len(row.planes) == given)

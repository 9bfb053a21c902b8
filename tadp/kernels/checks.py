"""What the arguments of the operators have to satisfy: shared by schemas and by variants written in Python.

Each check raises RuntimeError, as the compiled library does.
"""

import torch

from tadp.kernels.planes import padded_columns

MAX_COLUMNS = 65536
"""Longest row whose sums fit 32 bits: 65,536 * 255 * 127 < 2^31."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def check_planes(
    high: torch.Tensor, mid: torch.Tensor | None, low: torch.Tensor | None, columns: int, dtype: torch.dtype
) -> None:
    """Planes that fit a weight of ``columns`` columns, and a result type that is supported."""
    torch._check(dtype in FLOATS, lambda: f"tadp: dtype must be float32, bfloat16 or float16, got {dtype}")
    torch._check(mid is not None or low is None, lambda: "tadp: the low plane needs the mid plane before it")
    for name, plane, per_byte in (("high", high, 2), ("mid", mid, 4), ("low", low, 4)):
        if plane is not None:
            torch._check(
                plane.shape[1] == padded_columns(columns) // per_byte,
                lambda name=name: f"tadp: {name} does not fit a weight of {columns} columns",
            )


def check_linear(
    codes: torch.Tensor,
    scale: torch.Tensor,
    sum: torch.Tensor,
    high: torch.Tensor,
    mid: torch.Tensor | None,
    low: torch.Tensor | None,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> None:
    """All that a kernel relies on, so that it reads no memory outside its arguments."""
    torch._check(codes.dim() >= 1, lambda: "tadp: codes must have at least one dimension, the columns")
    for name, plane in (("high", high), ("mid", mid), ("low", low)):
        if plane is not None:
            fits = plane.dtype == torch.uint8 and plane.dim() == 2 and plane.shape[0] == high.shape[0]
            torch._check(
                fits, lambda name=name: f"tadp: {name} must be uint8, two-dimensional, with as many rows as high"
            )
    torch._check(codes.dtype == torch.int8, lambda: f"tadp: codes must be int8, got {codes.dtype}")
    check_planes(high, mid, low, codes.shape[-1], dtype)
    columns, rows, tokens = codes.shape[-1], high.shape[0], codes.shape[:-1]
    torch._check(columns <= MAX_COLUMNS, lambda: f"tadp: at most {MAX_COLUMNS} columns, got {columns}")
    for name, tensor, wanted, shape in (
        ("scale", scale, torch.float32, tokens),
        ("sum", sum, torch.int32, tokens),
        ("weight_scale", weight_scale, torch.float32, (rows,)),
    ):
        torch._check(
            tensor.dtype == wanted and tensor.shape == shape,
            lambda name=name, wanted=wanted, shape=shape: f"tadp: {name} must be {wanted} of shape {tuple(shape)}",
        )
    if bias is not None:
        torch._check(
            bias.dtype in FLOATS and bias.shape == (rows,),
            lambda: f"tadp: bias must be float32, bfloat16 or float16 of shape ({rows},)",
        )
    for argument in (scale, sum, high, mid, low, weight_scale, bias):
        torch._check(
            argument is None or argument.device == codes.device,
            lambda: f"tadp: all arguments must be on the device of codes, {codes.device}",
        )

"""What the arguments of the operators have to satisfy: shared by schemas and by kernels written in Python.

Each check raises RuntimeError, as the compiled library does.
"""

import torch

from tadp.kernels.block_map import QUERY_BLOCKS, map_shape
from tadp.kernels.formats import GROUP_SIZES, MAX_COLUMNS, PLANE_BITS
from tadp.kernels.planes import plane_shape
from tadp.kernels.reference import NONLINEARITIES
from tadp.kernels.rotation import SIZES
from tadp.kernels.values import Codes, Epilogue, Planes

MAX_KEYS = 2**24
"""Up to here float32 counts keys exactly, as the sums of weights need."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def check_quantize(x: torch.Tensor, groups: int, rotation: int = 0) -> None:
    """An activation that can be quantized, with sums for so many groups of columns, and rotated before."""
    _check_activation(x)
    torch._check(x.shape[-1] <= MAX_COLUMNS, lambda: f"tadp: at most {MAX_COLUMNS} columns, got {x.shape[-1]}")
    check_groups(groups, x.shape[-1])
    if rotation:
        _check_rotation(rotation, x.shape[-1])


def check_rotate(x: torch.Tensor, size: int) -> None:
    """An activation whose columns can be rotated."""
    _check_activation(x)
    _check_rotation(size, x.shape[-1])


def check_linear(activations: Codes, planes: Planes, epilogue: Epilogue) -> None:
    """All that a kernel relies on, so that it reads no memory outside its arguments.

    What ``widths`` holds is not looked at: a tracer has no values, and asking a GPU for them would wait for it.
    """
    codes, scale, total = activations
    torch._check(codes.dim() >= 1, lambda: "tadp: codes must have at least one dimension, the columns")
    torch._check(codes.dtype == torch.int8, lambda: f"tadp: codes must be int8, got {codes.dtype}")
    check_dequantize(planes, codes.shape[-1], epilogue.dtype)
    _check_epilogue(epilogue, planes.rows)
    tokens = codes.shape[:-1]
    sums = (*tokens, planes.groups) if planes.groups else tokens
    for name, tensor, wanted, shape in (("scale", scale, torch.float32, tokens), ("sum", total, torch.int32, sums)):
        torch._check(
            tensor.dtype == wanted and tensor.shape == shape,
            lambda name=name, wanted=wanted, shape=shape: f"tadp: {name} must be {wanted} of shape {tuple(shape)}",
        )
    if planes.widths is not None:
        _check_widths(planes.widths, planes)
    _check_devices(*activations, *planes, epilogue.bias)


def check_weight_only(x: torch.Tensor, planes: Planes, epilogue: Epilogue) -> None:
    """The same for a product with activations as they are."""
    _check_activation(x)
    check_dequantize(planes, x.shape[-1], x.dtype)
    _check_epilogue(epilogue, planes.rows)
    _check_devices(x, *planes, epilogue.bias)


ATTENTION_LEVELS = (8,)
"""Widths at which attention has kernels."""

HEAD_DIMENSIONS = range(32, 257)
"""Head dimensions that the kernels of attention take."""


def attention_obstacle(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    level: int,
    block_map: torch.Tensor | None = None,
) -> str | None:
    """Why no kernel below 16 bits takes these arguments of attention; None where there is one."""
    if level not in ATTENTION_LEVELS:
        return f"attention has kernels for {', '.join(map(str, ATTENTION_LEVELS))} bits, not for {level}"
    if any(tensor.dim() != 4 for tensor in (q, k, v)):
        return "attention takes tensors of four dimensions: batch, heads, tokens, dim"
    if q.dtype not in FLOATS or k.dtype != q.dtype or v.dtype != q.dtype:
        return "q, k and v must have one type, float32, bfloat16 or float16"
    if q.shape[:2] != k.shape[:2] or k.shape != v.shape or q.shape[3] != k.shape[3]:
        return f"q of {tuple(q.shape)} does not fit k of {tuple(k.shape)} and v of {tuple(v.shape)}"
    if q.shape[3] not in HEAD_DIMENSIONS:
        return f"a head dimension of {q.shape[3]}; kernels take {HEAD_DIMENSIONS.start} to {HEAD_DIMENSIONS.stop - 1}"
    if k.shape[2] == 0:
        return "attention over no keys"
    if k.shape[2] > MAX_KEYS:
        return f"{k.shape[2]} keys; kernels take {MAX_KEYS}"
    if block_map is not None:
        return _block_map_obstacle(q, k, mask, block_map)
    if mask is None:
        return None
    if mask.dtype != torch.bool and mask.dtype not in FLOATS:
        return f"a mask must be boolean or floating, got {mask.dtype}"
    wanted = (*q.shape[:3], k.shape[2])
    given = (1,) * (4 - mask.dim()) + tuple(mask.shape)
    fits = mask.dim() <= 4 and all(size in (1, whole) for size, whole in zip(given, wanted, strict=True))
    return None if fits else f"a mask of {tuple(mask.shape)} does not broadcast to {wanted}"


def _block_map_obstacle(
    q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor | None, block_map: torch.Tensor
) -> str | None:
    if mask is not None:
        return "attention takes a mask or a block_map, not both"
    if block_map.dtype != torch.bool:
        return f"block_map must be boolean, got {block_map.dtype}"
    shapes = [map_shape(q, k, size) for size in QUERY_BLOCKS]
    if tuple(block_map.shape) in shapes:
        return None
    return (
        "block_map must be (batch, heads, blocks of 64 or 128 queries, blocks of 64 keys), "
        f"{' or '.join(map(str, dict.fromkeys(shapes)))}, got {tuple(block_map.shape)}"
    )


def check_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    level: int = 8,
    block_map: torch.Tensor | None = None,
) -> None:
    """Arguments that kernels of attention take."""
    obstacle = attention_obstacle(q, k, v, mask, level, block_map)
    torch._check(obstacle is None, lambda: f"tadp: {obstacle}")
    _check_devices(q, k, v, mask, block_map)


def check_dequantize(planes: Planes, columns: int, dtype: torch.dtype | None) -> None:
    """Planes and scales that fit a weight of ``columns`` columns, and a result type that is supported."""
    high, mid, low, weight_scale, _ = planes
    torch._check(dtype in FLOATS, lambda: f"tadp: dtype must be float32, bfloat16 or float16, got {dtype}")
    torch._check(columns <= MAX_COLUMNS, lambda: f"tadp: at most {MAX_COLUMNS} columns, got {columns}")
    torch._check(mid is not None or low is None, lambda: "tadp: the low plane needs the mid plane before it")
    for name, plane in zip(PLANE_BITS, (high, mid, low), strict=True):
        if plane is None:
            continue
        fits = plane.dtype == torch.uint8 and plane.dim() == 2 and plane.shape[0] == high.shape[0]
        torch._check(fits, lambda name=name: f"tadp: {name} must be uint8, two-dimensional, with as many rows as high")
        torch._check(
            plane.shape == plane_shape(name, planes.rows, columns),
            lambda name=name: f"tadp: {name} does not fit a weight of {columns} columns",
        )
    rows = planes.rows
    torch._check(
        weight_scale.dtype == torch.float32 and weight_scale.dim() in (1, 2) and weight_scale.shape[0] == rows,
        lambda: f"tadp: weight_scale must be float32 of shape ({rows},) or ({rows}, groups)",
    )
    if weight_scale.dim() == 2:
        torch._check(weight_scale.shape[1] > 0, lambda: "tadp: weight_scale has no groups")
        check_groups(weight_scale.shape[1], columns)


def check_groups(groups: int, columns: int) -> None:
    """That so many groups of columns have a size that kernels support; 0 stands for no groups."""
    torch._check(
        groups == 0 or any(groups * size == columns for size in GROUP_SIZES),
        lambda: f"tadp: {columns} columns in {groups} groups; groups are of {' or '.join(map(str, GROUP_SIZES))}",
    )


def _check_activation(x: torch.Tensor) -> None:
    torch._check(x.dim() >= 1, lambda: "tadp: x must have at least one dimension, the columns")
    torch._check(x.dtype in FLOATS, lambda: f"tadp: x must be float32, bfloat16 or float16, got {x.dtype}")


def _check_rotation(size: int, columns: int) -> None:
    sizes = " or ".join(map(str, SIZES))
    torch._check(size in SIZES, lambda: f"tadp: a rotation mixes {sizes} columns, not {size}")
    torch._check(columns % size == 0, lambda: f"tadp: rotations of {size} columns do not divide {columns} columns")


def _check_widths(widths: torch.Tensor, planes: Planes) -> None:
    torch._check(
        widths.dtype == torch.uint8 and widths.shape == (planes.rows,),
        lambda: f"tadp: widths must be uint8 of shape ({planes.rows},)",
    )
    torch._check(planes.low is not None, lambda: "tadp: widths of single rows need all three planes")
    torch._check(planes.scale.dim() == 1, lambda: "tadp: widths of single rows need one scale a row, not groups")


def _check_epilogue(epilogue: Epilogue, rows: int) -> None:
    bias, nonlinearity, _ = epilogue
    if bias is not None:
        torch._check(
            bias.dtype in FLOATS and bias.shape == (rows,),
            lambda: f"tadp: bias must be float32, bfloat16 or float16 of shape ({rows},)",
        )
    torch._check(
        nonlinearity in NONLINEARITIES,
        lambda: f"tadp: unknown nonlinearity {nonlinearity!r}; there are {', '.join(NONLINEARITIES)}",
    )


def _check_devices(first: torch.Tensor, *others: torch.Tensor | None) -> None:
    torch._check(
        all(other is None or other.device == first.device for other in others),
        lambda: f"tadp: all arguments must be on one device, as the first is on {first.device}",
    )

"""The kernels of csrc/cuda: whether they are there, and which requests they serve.

The library holds them where it was built with a CUDA compiler. They quantize activations, and multiply few tokens,
where a product is bound by reading the weight; tensor cores, which the Triton kernels use, would wait for memory. What
the operators compute stands in reference.py.
"""

import functools

import torch

from tadp.kernels.checks import check_linear, check_quantize
from tadp.kernels.registry import Request, architecture_of
from tadp.kernels.values import Codes, Epilogue, Planes

NAME = "cuda"
"""What ``linear`` calls this product by."""

FEW_TOKENS = 16
"""Tokens that the product takes."""


def is_used(device: torch.device | None = None) -> bool:
    """Whether these kernels run on a GPU; without one given the current one, or any where the machine has none."""
    if not _is_built() or (device is not None and device.type != "cuda"):
        return False
    if device is None and not torch.cuda.is_available():
        return True
    index = None if device is None else device.index
    return _runs_on(torch.cuda.current_device() if index is None else index)


def serves(request: Request) -> str | None:
    """Why this product does not serve a linear layer; None where it does."""
    if request.level.mixed:
        return "it reads all rows at one width"
    if request.tokens > FEW_TOKENS:
        return f"it takes up to {FEW_TOKENS} tokens"
    return None if _is_used_on(request.architecture) else "the library holds no CUDA kernels for this GPU"


def serves_where_reading_lasts_longer(request: Request) -> str | None:
    """As ``serves``, and only where tensor cores could not be faster.

    The rule is arithmetic. From Ampere to Hopper a GPU multiplies 18 to 20 bytes by dp4a for each that it reads from
    memory. A weight of b bits has to be multiplied t times, so reading lasts longer where t is below 2.2 to 2.5 b.
    """
    most = 2 * request.level.weight
    return serves(request) or (None if request.tokens <= most else f"reading lasts longer up to {most} tokens only")


def quantize(x: torch.Tensor, groups: int = 0) -> Codes:
    """The same as reference.quantize, to the bit.

    Raises:
        RuntimeError: for an x that is not floating, has no columns' dimension or too many columns, or whose columns
            cannot be cut into so many groups.
    """
    check_quantize(x, groups)
    return Codes(*torch.ops.tadp.cuda_quantize(x, groups))


def linear(codes: Codes, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
    """The same as reference.linear, up to rounding.

    Raises:
        RuntimeError: for arguments that do not fit each other, more than ``FEW_TOKENS`` tokens, rows of widths of their
            own, and where the library has no kernels for this device.
    """
    device, tokens = codes.codes.device, codes.scale.numel()
    torch._check(is_used(device), lambda: f"tadp: the library holds no kernel {NAME!r} for {device}")
    check_linear(codes, planes, epilogue)
    torch._check(planes.widths is None, lambda: f"tadp: kernel {NAME!r} reads all rows at one width")
    torch._check(tokens <= FEW_TOKENS, lambda: f"tadp: kernel {NAME!r} takes up to {FEW_TOKENS} tokens, got {tokens}")
    *weight, _ = planes
    bias, nonlinearity, dtype = epilogue
    return torch.ops.tadp.cuda_few_tokens_linear(*codes, *weight, bias, dtype, nonlinearity)


def _is_used_on(architecture: str) -> bool:
    """Whether these kernels run on the machine's GPUs of an architecture; where it has none at all, on any."""
    if not torch.cuda.is_available():
        return is_used()
    devices = (torch.device("cuda", index) for index in range(torch.cuda.device_count()))
    return any(is_used(device) for device in devices if architecture_of(device) == architecture)


def _is_built() -> bool:
    return hasattr(torch.ops.tadp, "cuda_runs_on")


@functools.cache
def _runs_on(index: int) -> bool:
    return torch.ops.tadp.cuda_runs_on(index)

"""Kernels that failed in this process: they are not asked again, and others run in their place.

A kernel may serve a request as far as its rules tell, and fail all the same: its compiler does not know the GPU, the
driver is too old, a tile does not fit, a file in a cache is damaged. That is to cost time, and no clip: operators.py
takes the next kernel, and where there is none what stands here, in plain torch.
"""

import torch
from torch.nn import functional

from tadp.kernels import reference
from tadp.kernels.values import Codes, Epilogue, Planes

_ROWS = 1024
"""Rows of a weight that are restored at a time, in float64 on the way."""

_FAILED: dict[tuple[str, str], str] = {}
"""Why, by kernel and architecture."""


def failure_of(kernel: str, architecture: str) -> str | None:
    """Why a kernel failed; None where it did not.

    Args:
        kernel: as it is explained, such as "linear:int8".
        architecture: of the device, see `tadp.kernels.registry.architecture_of`.
    """
    return _FAILED.get((kernel, architecture))


def have_been() -> bool:
    """Whether any kernel failed in this process."""
    return bool(_FAILED)


def note(kernel: str, architecture: str, error: BaseException) -> str:
    """Remember that a kernel failed. Returns why, in one line."""
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return _FAILED.setdefault((kernel, architecture), reason)


def is_of_device(error: BaseException) -> bool:
    """Whether an error is one of the device, for which no kernel is to blame: memory that ran out, a broken context."""
    of_device = (torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))
    return isinstance(error, of_device) or "out of memory" in str(error).lower()  # Triton raises RuntimeError


def product(activations: Codes | torch.Tensor, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
    """A product of restored activations and weights: as `reference.linear`, rounded to the result's type on the way.

    Returns:
        ``(..., rows)``.
    """
    if isinstance(activations, Codes):
        assert epilogue.dtype is not None
        x = (activations.codes * activations.scale[..., None]).to(epilogue.dtype)
    else:
        x = activations if epilogue.dtype is None else activations.to(epilogue.dtype)
    parts = [
        functional.linear(x, reference.restore(own, x.shape[-1], x.dtype))
        for own in (planes.of_rows(first, first + _ROWS) for first in range(0, planes.rows, _ROWS))
    ]
    found = torch.cat(parts, -1)
    if epilogue.bias is not None:
        found = found + epilogue.bias.to(x.dtype)
    return reference.NONLINEARITIES[epilogue.nonlinearity](found)


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
    block_map: torch.Tensor | None,
) -> torch.Tensor:
    """Attention by torch, arguments as of `reference.attention`."""
    if block_map is None:
        found = functional.scaled_dot_product_attention(q, k, v, mask, scale=scale)
    else:  # head by head: a mask of tokens takes a byte for each pair
        heads = zip(*(part.split(1, dim=1) for part in (q, k, v, block_map)), strict=True)
        found = torch.cat([_attention_of_blocks(*head, scale=scale) for head in heads], 1)
    return found.transpose(1, 2).contiguous().transpose(1, 2)


def _attention_of_blocks(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, block_map: torch.Tensor, *, scale: float | None
) -> torch.Tensor:
    mask = reference.tokens_of_blocks(block_map, q.shape[2], k.shape[2])
    return functional.scaled_dot_product_attention(q, k, v, mask, scale=scale)

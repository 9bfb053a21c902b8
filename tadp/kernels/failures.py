"""Kernels that failed in this process: they are not asked again, and others run in their place.

A kernel may serve a request as far as its rules tell, and fail all the same: its compiler does not know the GPU, the
driver is too old, a tile does not fit, a file in a cache is damaged. That is to cost time, and no clip: operators.py
takes the next kernel, and where there is none what stands here, in plain torch.
"""

import torch
from torch.nn import functional

from tadp.kernels import reference
from tadp.kernels.values import Codes, Epilogue, Planes

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


def forget() -> None:
    """Let all kernels be asked again."""
    _FAILED.clear()


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
    bias = None if epilogue.bias is None else epilogue.bias.to(x.dtype)
    found = functional.linear(x, reference.restore(planes, x.shape[-1], x.dtype), bias)
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
    if block_map is not None:
        mask = reference.tokens_of_blocks(block_map, q.shape[2], k.shape[2])
    found = functional.scaled_dot_product_attention(q, k, v, mask, scale=scale)
    return found.transpose(1, 2).contiguous().transpose(1, 2)

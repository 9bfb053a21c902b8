"""The launchers of Triton's kernels, for tests that do not say which kernel runs: it then is the first for Hopper."""

from dataclasses import replace

import torch

from tadp.kernels.devices import attention_sizes, linear_sizes, weight_only_sizes
from tadp.kernels.registry import AttentionRequest, Request
from tadp.kernels.triton import attention as attention_launcher
from tadp.kernels.triton import linear as linear_launcher
from tadp.kernels.triton import weight_only
from tadp.kernels.triton.attention_tile import attention_tile_for
from tadp.kernels.values import Codes, Epilogue, Planes

HOPPER = {"device": "cuda", "architecture": "sm_90"}


def linear(codes: Codes, planes: Planes, epilogue: Epilogue, kernel_name: str = "") -> torch.Tensor:
    assert epilogue.dtype is not None
    request = replace(Request.of(codes, planes, epilogue.dtype), **HOPPER)
    return linear_launcher.linear(codes, planes, epilogue, kernel_name or linear_sizes(request)[0])


def weight_only_linear(x: torch.Tensor, planes: Planes, epilogue: Epilogue, kernel_name: str = "") -> torch.Tensor:
    request = replace(Request.of(x, planes, x.dtype), **HOPPER)
    return weight_only.weight_only_linear(x, planes, epilogue, kernel_name or weight_only_sizes(request)[0])


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    kernel_name: str = "",
) -> torch.Tensor:
    request = AttentionRequest(q, k, v, mask, 8, **HOPPER)
    name = kernel_name or attention_sizes(request)[0]
    return attention_launcher.attention(q, k, v, mask, scale, kernel_name=name)


def attention_name(
    operands: str, q: torch.Tensor, mask: torch.Tensor | None = None, capability: tuple[int, int] = (9, 0)
) -> str:
    """The kernel whose products have operands of these types, in the sizes that are taken first."""
    masked = mask is not None and mask.dim() > 1 and mask.shape[-2] > 1
    return str(attention_tile_for(q.shape[2], q.shape[3], capability, operands, masked=masked))

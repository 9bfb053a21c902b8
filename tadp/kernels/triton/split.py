"""The second kernel of a product whose columns are split: it adds the parts up and finishes as one kernel would have.

The parts are added in ascending order, so that a result does not depend on which program was done first.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from tadp.kernels.triton.epilogue import integer_value, nonlinear
from tadp.kernels.triton.starting import start_kernel
from tadp.kernels.values import Codes, Epilogue

_BLOCK = 256
"""Outputs of a program: few, since the parts lie in the L2 cache and only many programs read it at its full rate."""


@triton.jit(do_not_specialize=["outputs"])
def add_up_kernel(  # type: ignore[no-untyped-def]
    parts,
    scale,
    sum,
    weight_scale,
    bias,
    out,
    outputs,
    rows,
    splits: tl.constexpr,
    width: tl.constexpr,
    factor: tl.constexpr,
    nonlinearity: tl.constexpr,
    block: tl.constexpr,
):
    """``block`` elements of ``out``, ``outputs`` in all, from ``parts`` ``(splits, tokens, rows)``.

    Integer parts are sums of codes; ``scale`` and ``sum`` are those of the tokens. Floating parts are sums of values as
    unpack.values has them, and there ``scale`` and ``sum`` are None. ``weight_scale`` is None where it is in already.
    """
    index = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = index < outputs
    token, row = index // rows, index % rows
    total = tl.load(parts + index, mask=inside, other=0)
    for split in tl.static_range(1, splits):
        total += tl.load(parts + tl.cast(outputs, tl.int64) * split + index, mask=inside, other=0)
    if scale is not None:
        value = integer_value(total, tl.load(sum + token, mask=inside, other=0), width)
        value = value * tl.load(scale + token, mask=inside, other=0)
        value = value * tl.load(weight_scale + row, mask=inside, other=0)
    elif weight_scale is not None:
        value = total * (factor * tl.load(weight_scale + row, mask=inside, other=0))
    else:
        value = total * factor
    if bias is not None:
        value += tl.load(bias + row, mask=inside, other=0).to(tl.float32)
    tl.store(out + index, nonlinear(value, nonlinearity).to(out.dtype.element_ty), mask=inside)


def add_up(
    parts: torch.Tensor,
    codes: Codes | None,
    weight_scale: torch.Tensor | None,
    epilogue: Epilogue,
    out: torch.Tensor,
    width: int,
    factor: float = 1.0,
) -> None:
    """Finish a split product into ``out``; arguments as for the kernel, all contiguous."""
    outputs, rows = out.numel(), out.shape[-1]
    start_kernel(
        add_up_kernel,
        (triton.cdiv(outputs, _BLOCK),),
        parts,
        *(codes[1:] if codes is not None else (None, None)),
        weight_scale,
        epilogue.bias,
        out,
        outputs,
        rows,
        **add_up_constants(parts.shape[0], width, epilogue.nonlinearity, factor),
        num_warps=4,
        enable_fp_fusion=False,
    )


def add_up_constants(splits: int, width: int, nonlinearity: str, factor: float = 1.0) -> dict[str, Any]:
    """The kernel's compile-time arguments."""
    return {"splits": splits, "width": width, "factor": factor, "nonlinearity": nonlinearity, "block": _BLOCK}

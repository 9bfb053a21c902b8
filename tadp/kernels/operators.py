"""Schemas of ``torch.ops.tadp``, with the shapes they promise to a tracer.

The CPU implementations are csrc/cpu, registered when the library is loaded. On NVIDIA GPUs the products are Triton
kernels where triton can be imported, and where the library holds the kernels of csrc/cuda they quantize and multiply
few tokens; the reference serves what is left. Callers see the operator only.

    quantize(x (..., columns), groups) -> codes (..., columns) int8, scale (...) float32, sum (...) int32
    linear(codes, scale, sum, planes, weight_scale, bias (rows,), dtype, nonlinearity, kernel_name, widths=None)
        -> (..., rows)
    weight_only_linear(x (..., columns), planes, weight_scale, bias, nonlinearity, kernel_name) -> (..., rows)
    dequantize(planes, weight_scale, columns, dtype) -> (rows, columns)
    attention(q (batch, heads, queries, dim), k, v (batch, heads, keys, dim), mask, scale, level) -> as q

The planes are ``high``, ``mid`` and ``low`` as planes.py cuts them. Which are given decides the width: high alone is 4
bits, with mid 6, with low 8. ``weight_scale`` is float32, ``(rows,)``, or ``(rows, groups)`` where several scales share
a row; ``sum`` then is ``(..., groups)``. Floating types are float32, bfloat16 and float16. ``nonlinearity`` is one of
reference.NONLINEARITIES. ``mask`` is boolean or additive and broadcasts to ``(batch, heads, queries, keys)``; ``level``
is the width of the products of attention. ``kernel_name`` picks one of a device's implementations by name; empty, a
rule does. ``widths``, ``(rows,)`` uint8, reads each weight row at 8, 6 or 4 bits of its own; it comes with all planes
and one scale a row. What the operators compute stands in reference.py.
"""

from typing import Any

import torch

from tadp.kernels import cuda, reference
from tadp.kernels import triton as triton_kernels
from tadp.kernels.checks import check_attention, check_dequantize, check_linear, check_quantize, check_weight_only
from tadp.kernels.planes import width_of

_WEIGHT = "Tensor high, Tensor? mid, Tensor? low, Tensor weight_scale"
_EPILOGUE = 'str nonlinearity="none", str kernel_name=""'
_SCHEMAS = {
    "quantize": "(Tensor x, int groups=0) -> (Tensor codes, Tensor scale, Tensor sum)",
    "linear": (
        f"(Tensor codes, Tensor scale, Tensor sum, {_WEIGHT}, Tensor? bias, ScalarType dtype, {_EPILOGUE}, "
        "Tensor? widths=None) -> Tensor"
    ),
    "weight_only_linear": f"(Tensor x, {_WEIGHT}, Tensor? bias, {_EPILOGUE}) -> Tensor",
    "dequantize": f"({_WEIGHT}, int columns, ScalarType dtype) -> Tensor",
    "attention": (
        "(Tensor q, Tensor k, Tensor v, Tensor? mask=None, float? scale=None, int level=8, "
        'str kernel_name="") -> Tensor'
    ),
    "cpu_isa": "() -> str",
}

for _name, _schema in _SCHEMAS.items():
    torch.library.define(f"tadp::{_name}", _schema, tags=(torch.Tag.pt2_compliant_tag,))

torch.library.impl("tadp::dequantize", "CUDA", reference.dequantize)


@torch.library.impl("tadp::quantize", "CUDA")
def _quantize_on_cuda(x: torch.Tensor, groups: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return cuda.quantize(x, groups) if cuda.is_used(x.device) else reference.quantize(x, groups)


@torch.library.impl("tadp::linear", "CUDA")
def _linear_on_cuda(
    codes: torch.Tensor,
    scale: torch.Tensor,
    sum: torch.Tensor,
    high: torch.Tensor,
    mid: torch.Tensor | None,
    low: torch.Tensor | None,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
    nonlinearity: str = "none",
    kernel_name: str = "",
    widths: torch.Tensor | None = None,
) -> torch.Tensor:
    if widths is None and cuda.serves(scale.numel(), width_of(mid, low), codes.device, kernel_name):
        return cuda.linear(codes, scale, sum, high, mid, low, weight_scale, bias, dtype, nonlinearity, kernel_name)
    message = f"tadp: kernel {cuda.NAME!r} reads all rows at one width"
    torch._check(widths is None or kernel_name != cuda.NAME, lambda: message)
    if triton_kernels.is_used(codes.device):
        from tadp.kernels.triton.linear import linear  # imports triton, which not every torch brings along
    else:
        linear = reference.linear
    return linear(codes, scale, sum, high, mid, low, weight_scale, bias, dtype, nonlinearity, kernel_name, widths)


@torch.library.impl("tadp::weight_only_linear", "CUDA")
def _weight_only_linear_on_cuda(x: torch.Tensor, *others: Any) -> torch.Tensor:
    if not triton_kernels.is_used(x.device):
        return reference.weight_only_linear(x, *others)
    from tadp.kernels.triton.weight_only import weight_only_linear

    return weight_only_linear(x, *others)


@torch.library.impl("tadp::attention", "CUDA")
def _attention_on_cuda(q: torch.Tensor, *others: Any) -> torch.Tensor:
    if not triton_kernels.is_used(q.device):
        return reference.attention(q, *others)
    from tadp.kernels.triton.attention import attention

    return attention(q, *others)


@torch.library.register_fake("tadp::quantize")
def _fake_quantize(x: torch.Tensor, groups: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    check_quantize(x, groups)
    tokens = x.shape[:-1]
    codes = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    sums = (*tokens, groups) if groups else tokens
    return codes, x.new_empty(tokens, dtype=torch.float32), x.new_empty(sums, dtype=torch.int32)


@torch.library.register_fake("tadp::linear")
def _fake_linear(
    codes: torch.Tensor,
    scale: torch.Tensor,
    sum: torch.Tensor,
    high: torch.Tensor,
    mid: torch.Tensor | None,
    low: torch.Tensor | None,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
    nonlinearity: str = "none",
    kernel_name: str = "",
    widths: torch.Tensor | None = None,
) -> torch.Tensor:
    check_linear(codes, scale, sum, high, mid, low, weight_scale, bias, dtype, nonlinearity, widths)
    return torch.empty((*codes.shape[:-1], high.shape[0]), dtype=dtype, device=codes.device)


@torch.library.register_fake("tadp::weight_only_linear")
def _fake_weight_only_linear(
    x: torch.Tensor,
    high: torch.Tensor,
    mid: torch.Tensor | None,
    low: torch.Tensor | None,
    weight_scale: torch.Tensor,
    bias: torch.Tensor | None,
    nonlinearity: str = "none",
    kernel_name: str = "",
) -> torch.Tensor:
    check_weight_only(x, high, mid, low, weight_scale, bias, nonlinearity)
    return x.new_empty((*x.shape[:-1], high.shape[0]))


@torch.library.register_fake("tadp::dequantize")
def _fake_dequantize(
    high: torch.Tensor,
    mid: torch.Tensor | None,
    low: torch.Tensor | None,
    weight_scale: torch.Tensor,
    columns: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    check_dequantize(high, mid, low, weight_scale, columns, dtype)
    return torch.empty((high.shape[0], columns), dtype=dtype, device=high.device)


@torch.library.register_fake("tadp::attention")
def _fake_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    level: int = 8,
    kernel_name: str = "",
) -> torch.Tensor:
    check_attention(q, k, v, mask, level)
    batch, heads, queries, dim = q.shape
    # The heads of a token lie side by side, as the layer behind attention reads them.
    return q.new_empty((batch, queries, heads, dim)).transpose(1, 2)

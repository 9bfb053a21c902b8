"""The kernels that tadp brings along, by operator and device type, each list in the order in which it is asked."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from tadp.kernels import cuda
from tadp.kernels import triton as triton_kernels
from tadp.kernels.block_map import queries_of_row
from tadp.kernels.checks import attention_obstacle
from tadp.kernels.isa import is_available
from tadp.kernels.operators import flatten
from tadp.kernels.registry import KERNELS, AttentionRequest, Kernel, Request
from tadp.kernels.triton.attention_tile import attention_kernels_for, most_keys
from tadp.kernels.triton.tile import kernels_for
from tadp.kernels.values import Codes, Epilogue, Planes

FEW_TOKENS = 16
"""Up to so many tokens the fused weight-only kernels of CPUs serve (csrc/cpu/weight_only.h)."""

MANY_TOKENS = 256
"""Beyond so many tokens a GPU restores a weight of 16 bits before it multiplies.

A guess by arithmetic, which a table of measurements replaces. Restoring and reading once more moves three bytes more
for each weight. An H100 (3.35 TB/s, 989 TFLOP/s) does so in the time that 250 tokens save if the library reaches 65 %
of the peak and a kernel that unpacks before each product 30 %, and 470 tokens if that reaches 40 %.
"""


def attention_is_faster(device: torch.device | None) -> bool:
    """Whether attention products at 8 bits take less time than at 16 on a device; None stands for a CPU.

    On CPUs it takes products of vectors of integers: `python -m bench.kernels.attention` finds 1.5 times the speed of
    float32 with AVX2 alone from some hundred tokens on. On GPUs tensor cores multiply bytes at twice the rate.
    """
    if device is None or device.type == "cpu":
        return any(map(is_available, ("avx2", "avxvnni", "avx512vnni")))
    return True


def linear_sizes(request: Request) -> tuple[str, ...]:
    """Names of the Triton kernels worth timing for the product of codes."""
    return _sizes(request, 8)


def weight_only_sizes(request: Request) -> tuple[str, ...]:
    """Names of the Triton kernels worth timing for the product of activations as they are."""
    return _sizes(request, 8 * request.dtype.itemsize)


def attention_sizes(request: AttentionRequest) -> tuple[str, ...]:
    """Names of the Triton kernels worth timing for attention."""
    queries, dim = request.q.shape[2:]
    return attention_kernels_for(
        queries,
        dim,
        _capability(request.architecture),
        masked=request.is_masked_by_query,
        row_queries=None if request.block_map is None else queries_of_row(queries, request.block_map),
    )


def _capability(architecture: str) -> tuple[int, int]:
    major, minor = divmod(int(architecture.removeprefix("sm_")), 10)
    return major, minor


def _sizes(request: Request, activations: int) -> tuple[str, ...]:
    capability = _capability(request.architecture)
    shape = (request.tokens, request.rows, request.columns, request.level.widest)
    mixed = request.level.mixed
    return kernels_for(*shape, capability, activations=activations, groups=request.groups, mixed=mixed)


def _in_cpp(operator: str, name: str, activations: Any, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
    product: torch.Tensor = getattr(torch.ops.tadp, operator)(*flatten(activations, planes, epilogue, name))
    return product


def _attention_in_cpp(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
    block_map: torch.Tensor | None = None,
) -> torch.Tensor:
    product: torch.Tensor = torch.ops.tadp.attention(q, k, v, mask, scale, kernel_name="int8", block_map=block_map)
    return product


def _always(request: Request) -> str | None:
    return None


def _fused_serves(request: Request) -> str | None:
    return None if request.tokens <= FEW_TOKENS else f"it takes up to {FEW_TOKENS} tokens"


def _attention_serves(request: AttentionRequest) -> str | None:
    return attention_obstacle(request.q, request.k, request.v, request.mask, request.level, request.block_map)


def _triton_serves(request: Request | AttentionRequest) -> str | None:
    return triton_kernels.missing() or triton_kernels.too_old(_capability(request.architecture))


def _triton_attention_serves(request: AttentionRequest) -> str | None:
    obstacle = _triton_serves(request) or _attention_serves(request)
    if obstacle is not None:
        return obstacle
    keys, most = request.k.shape[2], most_keys(request.q.shape[3])
    return None if keys <= most else f"attention on GPUs takes up to {most} keys of this dim, got {keys}"


def _triton_linear(codes: Codes, planes: Planes, epilogue: Epilogue, kernel_name: str) -> torch.Tensor:
    from tadp.kernels.triton.linear import linear  # imports triton, which not every torch brings along

    return linear(codes, planes, epilogue, kernel_name)


def _library_serves(request: Request) -> str | None:
    """Why the library's integer product does not serve; on GPUs it takes no fewer tokens and no other multiples."""
    if obstacle := _triton_serves(request):
        return obstacle
    if request.groups or request.level.mixed:
        return "the library's product has one scale and one width a row"
    if request.tokens <= 16 or request.rows % 8 or request.columns % 8:
        return "the library's product takes more than 16 tokens, and rows and columns in multiples of 8"
    return None


def _library_linear(codes: Codes, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
    from tadp.kernels.triton.library import linear_by_library

    return linear_by_library(codes, planes, epilogue)


def _triton_weight_only(x: torch.Tensor, planes: Planes, epilogue: Epilogue, kernel_name: str) -> torch.Tensor:
    from tadp.kernels.triton.weight_only import weight_only_linear

    return weight_only_linear(x, planes, epilogue, kernel_name)


def _restoring_serves_many(request: Request) -> str | None:
    if request.dtype == torch.float32:
        return "products of float32 have no tensor cores"
    if request.tokens <= MANY_TOKENS:
        return f"it comes first from {MANY_TOKENS + 1} tokens on"
    return _triton_serves(request)


def _by_dequantizing(x: torch.Tensor, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
    from tadp.kernels.triton.dequantize import linear_by_dequantizing

    return linear_by_dequantizing(x, planes, epilogue)


def _triton_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
    kernel_name: str,
    block_map: torch.Tensor | None = None,
) -> torch.Tensor:
    from tadp.kernels.triton.attention import attention
    from tadp.kernels.triton.sparse_attention import sparse_attention

    if block_map is not None:
        return sparse_attention(q, k, v, block_map, scale, kernel_name=kernel_name)
    return attention(q, k, v, mask, scale, kernel_name=kernel_name)


def _in_triton(
    name: str,
    operator: str,
    serves: Callable[[Any], str | None],
    run: Callable[..., torch.Tensor],
    sizes: Callable[[Any], tuple[str, ...]] | None = None,
    sparse: bool = False,
) -> Kernel:
    return Kernel(name, operator, "cuda", serves, run, sizes, sparse=sparse, compiles_at_first=True)


def _cpu(operator: str, name: str, serves: Callable[[Request], str | None] = _always) -> Kernel:
    return Kernel(name, operator, "cpu", serves, partial(_in_cpp, operator, name), compiled=True)


KERNELS.update(
    {
        ("linear", "cpu"): (_cpu("linear", "int8"),),
        ("weight_only_linear", "cpu"): (
            _cpu("weight_only_linear", "fused", _fused_serves),
            _cpu("weight_only_linear", "dequantize"),
        ),
        ("attention", "cpu"): (
            Kernel("int8", "attention", "cpu", _attention_serves, _attention_in_cpp, compiled=True, sparse=True),
        ),
        ("linear", "cuda"): (
            Kernel(cuda.NAME, "linear", "cuda", cuda.serves_where_reading_lasts_longer, cuda.linear),
            _in_triton("triton", "linear", _triton_serves, _triton_linear, linear_sizes),
            _in_triton(
                "library", "linear", _library_serves, _library_linear
            ),  # taken where it is measured to be faster
            # Elsewhere the tensor cores are expected to be faster, and measurements may say otherwise.
            Kernel(cuda.NAME, "linear", "cuda", cuda.serves, cuda.linear),
        ),
        ("weight_only_linear", "cuda"): (
            _in_triton("dequantize", "weight_only_linear", _restoring_serves_many, _by_dequantizing),
            _in_triton("triton", "weight_only_linear", _triton_serves, _triton_weight_only, weight_only_sizes),
            _in_triton("dequantize", "weight_only_linear", _triton_serves, _by_dequantizing),
        ),
        ("attention", "cuda"): (
            _in_triton(
                "triton", "attention", _triton_attention_serves, _triton_attention, attention_sizes, sparse=True
            ),
        ),
    }
)

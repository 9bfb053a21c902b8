"""How long does each operator take at each level, against bfloat16 and, layers, against torchao's dynamic int8?

For pytest-benchmark, and not part of what a bare ``pytest`` runs:

    python -m pytest bench/kernels/micro.py --benchmark-only --benchmark-json=out/micro.json
    python -m bench.kernels.ratios out/micro.json

One group a shape. Candidates run one after the other here; where machines are shared, believe
``python -m bench.kernels.linear``, which interleaves them. ``-m short`` selects three shapes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch.nn import functional

from bench.kernels import attention
from bench.kernels.linear import BASE, RIVAL, Shape, first_kernel, rival_linear
from tadp.kernels import BitPlaneWeight
from tadp.kernels.tuning import apply
from tadp.precision import Level

TOKENS = (1, 16, 512, 1280)
LAYERS = ((384, 1536), (1536, 1536))
"""Widths ``(in, out)``: of the embedded model's feed-forward, and of Wan2.1-1.3B's attention."""

SHORT: tuple[Shape, ...] = ((16, 1536, 1536), (512, 384, 1536))
"""Both are in bench.kernels.linear's short run too, so that what the rival compiled there is found again."""


def _bfloat16(x: torch.Tensor, weight: torch.Tensor) -> Callable[[], object]:
    return lambda: functional.linear(x, weight)


def _torchao(x: torch.Tensor, weight: torch.Tensor) -> Callable[[], object]:
    rival = rival_linear(weight, "compiled")
    try:
        rival(x)
    except Exception as error:  # whatever a rival fails with: its absence is the result
        pytest.skip(f"{RIVAL} fails: {type(error).__name__}")
    return lambda: rival(x)


def _quantize(x: torch.Tensor, weight: torch.Tensor) -> Callable[[], object]:
    """The part of a product at 8-bit activations that several layers may share."""
    return lambda: torch.ops.tadp.quantize(x)


def _tadp(level: Level, x: torch.Tensor, weight: torch.Tensor) -> Callable[[], object]:
    """A layer as passes lower it: quantize and multiply, or multiply with weights only."""
    packed = BitPlaneWeight.from_hp(weight)
    kernel = first_kernel(level, x, weight)
    return lambda: apply(kernel, level, x, packed)


LEVELS = tuple(Level(weight, activation) for activation in (8, 16) for weight in (8, 6, 4))
CANDIDATES: dict[str, Callable[[torch.Tensor, torch.Tensor], Callable[[], object]]] = {
    BASE: _bfloat16,
    RIVAL: _torchao,
    "quantize": _quantize,
    **{f"tadp {level}": partial(_tadp, level) for level in LEVELS},
}


ATTENTION: dict[str, Callable[..., object]] = {
    BASE: functional.scaled_dot_product_attention,
    "tadp 8": torch.ops.tadp.attention,
}
ATTENTION_SHAPES = (attention.Shape(3, 1280, 1280, 64), attention.Shape(12, 1280, 1280, 128))
"""Of the embedded model, and of Wan2.1-1.3B."""


def _group(shape: object, name: str, is_short: bool) -> Any:
    """A shape as a group of its own."""
    marks = [pytest.mark.benchmark(group=name), *([pytest.mark.short] if is_short else [])]
    return pytest.param(shape, marks=marks, id=name)


def _linear_groups() -> list[Any]:
    shapes = [(tokens, *layer) for layer in LAYERS for tokens in TOKENS]
    return [_group(shape, "x".join(map(str, shape)), shape in SHORT) for shape in shapes]


def _attention_groups() -> list[Any]:
    return [
        _group(shape, f"{shape.heads} heads {shape.queries}x{shape.keys}x{shape.dim}", shape == ATTENTION_SHAPES[0])
        for shape in ATTENTION_SHAPES
    ]


# The upper one varies faster, so that what is compared runs close together.
@pytest.mark.parametrize("candidate", CANDIDATES)
@pytest.mark.parametrize("shape", _linear_groups())
def test_linear(benchmark: BenchmarkFixture, shape: Shape, candidate: str) -> None:
    """Time one candidate on one shape."""
    tokens, columns, rows = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, columns, generator=generator).bfloat16()
    weight = (torch.randn(rows, columns, generator=generator) * 0.05).bfloat16()
    benchmark.extra_info["candidate"] = candidate
    with torch.no_grad():
        call = CANDIDATES[candidate](x, weight)
        call()
        benchmark(call)


@pytest.mark.parametrize("candidate", ATTENTION)
@pytest.mark.parametrize("shape", _attention_groups())
def test_attention(benchmark: BenchmarkFixture, shape: attention.Shape, candidate: str) -> None:
    """Time one candidate on one attention product, quantization included."""
    benchmark.extra_info["candidate"] = candidate
    with torch.no_grad():
        call = partial(ATTENTION[candidate], *attention.values(shape))
        call()
        benchmark(call)

"""What bench.kernels.gpu times: every kernel that tadp offers for a linear layer on GPUs, and its rivals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torchao.core.config import AOBaseConfig
from torchao.quantization import (
    Float8DynamicActivationFloat8WeightConfig,
    Int8DynamicActivationInt8WeightConfig,
    PerRow,
    PerTensor,
    quantize_,
)

from bench.kernels.floors import Shape, Work
from tadp.kernels import BitPlaneWeight, reference
from tadp.kernels.formats import WIDTHS
from tadp.kernels.operators import flatten
from tadp.kernels.registry import Request, architecture_of, candidates
from tadp.kernels.values import Codes, Epilogue
from tadp.precision import Level

BASE = "bfloat16 F.linear"

_CHECKED_TOKENS = 8
_TOLERANCE = 2.0**-7
"""Largest relative error against the reference: results are rounded to bfloat16, weights of 16-bit products too."""

_FLOAT8 = torch.float8_e4m3fn


@dataclass(frozen=True)
class Candidate:
    """One way to compute a layer.

    Attributes:
        name: as it stands in the table.
        work: what it does, for its floors.
        call: computes the layer; its result is ``(tokens, rows)`` unless there is nothing to check.
        exact: the values that a few tokens must have, if it is held to a reference; see ``check``.
    """

    name: str
    work: Work
    call: Callable[[], object]
    exact: Callable[[torch.Tensor], torch.Tensor] | None = None


Build = Callable[[], Candidate]
"""Makes a candidate, or fails: a rival that a GPU or a version does not support says so only then."""


@dataclass(frozen=True)
class Layer:
    """Input and weight, bfloat16, that all candidates share, and the weight in planes."""

    x: torch.Tensor
    weight: torch.Tensor
    packed: BitPlaneWeight

    @classmethod
    def random(cls, shape: Shape) -> "Layer":
        """Normal values on the current GPU."""
        generator = torch.Generator("cuda").manual_seed(0)
        made = (
            torch.randn(size, generator=generator, device="cuda", dtype=torch.bfloat16)
            for size in ((shape.tokens, shape.columns), (shape.rows, shape.columns))
        )
        x, weight = next(made), next(made) * 0.05
        return cls(x, weight, BitPlaneWeight.from_hp(weight))


def builds(layer: Layer, kernels: Callable[[int, int], tuple[str, ...]]) -> Iterator[tuple[str, Build]]:
    """Name and recipe of each candidate.

    Args:
        layer: what to compute.
        kernels: names that tadp offers by the width of the weight and of the activation, 8 or 16.
    """
    yield BASE, lambda: _bfloat16(layer)
    yield "torch._int_mm", lambda: _int_mm(layer)
    yield "torch._scaled_mm float8", lambda: _scaled_mm(layer)
    yield "torchao int8", lambda: _torchao(layer, "torchao int8", Int8DynamicActivationInt8WeightConfig(), "int8")
    yield "torchao float8", lambda: _torchao(layer, "torchao float8", _float8_config(), "float8")
    yield "tadp quantize", lambda: _quantize(layer)
    for width in WIDTHS:
        yield f"tadp W{width}A8", lambda width=width: _linear(layer, width)  # type: ignore[misc]
        for kernel in kernels(width, 8):
            yield f"tadp W{width}A8 product, {kernel}", lambda w=width, k=kernel: _product(layer, w, k)  # type: ignore[misc]
        for kernel in kernels(width, 16):
            yield f"tadp W{width}A16, {kernel}", lambda w=width, k=kernel: _weight_only(layer, w, k)  # type: ignore[misc]


def offered_kernels(shape: Shape, width: int, activations: int) -> tuple[str, ...]:
    """Names of the kernels that serve a shape on the current GPU."""
    level, device = Level(width, activations), torch.device("cuda")
    size = (shape.tokens, shape.columns, shape.rows, 0)
    request = Request(level, *size, torch.bfloat16, device.type, architecture_of(device))
    operator = "linear" if activations == 8 else "weight_only_linear"
    return tuple(kernel.name for kernel in candidates(request) if kernel.operator == operator)


def check(candidate: Candidate, layer: Layer) -> float | None:
    """Relative error of a few tokens against the float64 product of what was not quantized.

    Raises:
        ArithmeticError: where a candidate that is held to a reference misses it.
    """
    found = candidate.call()
    if not isinstance(found, torch.Tensor) or found.dtype == torch.int32:
        return None
    tokens = torch.linspace(0, layer.x.shape[0] - 1, _CHECKED_TOKENS, device="cuda").long().unique()
    some = found[tokens].double()
    if candidate.exact is not None:
        error = _relative(some, candidate.exact(tokens))
        if not error <= _TOLERANCE:
            raise ArithmeticError(f"wrong: relative error {error:.3g} against the reference")
    return _relative(some, layer.x[tokens].double() @ layer.weight.double().T)


def _relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def _quantize(layer: Layer) -> Candidate:
    return Candidate("tadp quantize", Work(None, 2, 0, 1), lambda: torch.ops.tadp.quantize(layer.x))


def _linear(layer: Layer, width: int) -> Candidate:
    return Candidate(
        f"tadp W{width}A8",
        Work("int8", 2, width, 2),
        lambda: layer.packed.linear(layer.x, width=width),
        lambda tokens: _exact_product(layer, width, tokens),
    )


def _product(layer: Layer, width: int, kernel: str) -> Candidate:
    quantized = Codes(*torch.ops.tadp.quantize(layer.x))
    arguments = flatten(quantized, layer.packed.planes(width), Epilogue(dtype=torch.bfloat16), kernel)
    return Candidate(
        f"tadp W{width}A8 product, {kernel}",
        Work("int8", 1, width, 2),
        lambda: torch.ops.tadp.linear(*arguments),
        lambda tokens: _exact_product(layer, width, tokens),
    )


def _weight_only(layer: Layer, width: int, kernel: str) -> Candidate:
    planes = layer.packed.planes(width)
    arguments = flatten(layer.x, planes, Epilogue(), kernel)
    return Candidate(
        f"tadp W{width}A16, {kernel}",
        Work("bfloat16", 2, width, 2),
        lambda: torch.ops.tadp.weight_only_linear(*arguments),
        lambda tokens: reference.weight_only_linear(layer.x[tokens], planes, Epilogue(dtype=torch.float64)),
    )


def _exact_product(layer: Layer, width: int, tokens: torch.Tensor) -> torch.Tensor:
    quantized = reference.quantize(layer.x[tokens])
    return reference.linear(quantized, layer.packed.planes(width), Epilogue(dtype=torch.float64))


def _bfloat16(layer: Layer) -> Candidate:
    return Candidate(BASE, Work("bfloat16", 2, 16, 2), lambda: functional.linear(layer.x, layer.weight))


def _int_mm(layer: Layer) -> Candidate:
    codes, _, _ = torch.ops.tadp.quantize(layer.x)
    weight, _, _ = reference.quantize(layer.weight)
    return Candidate("torch._int_mm", Work("int8", 1, 8, 4), lambda: torch._int_mm(codes, weight.t()))


def _scaled_mm(layer: Layer) -> Candidate:
    """With a scale for each token and row where that is supported, else with one for each tensor."""
    reason: Exception | None = None
    for name, dimension in (("row-wise", -1), ("tensor-wise", None)):
        (x, x_scale), (weight, weight_scale) = (_to_float8(tensor, dimension) for tensor in (layer.x, layer.weight))
        scales = (x_scale, weight_scale.t() if dimension is not None else weight_scale)

        def call(x: torch.Tensor = x, weight: torch.Tensor = weight, scales: tuple = scales) -> torch.Tensor:
            return torch._scaled_mm(x, weight.t(), *scales, out_dtype=torch.bfloat16, use_fast_accum=True)

        try:
            call()
        except (RuntimeError, ValueError) as error:
            reason = error
        else:
            return Candidate(f"torch._scaled_mm float8, {name}", Work("float8", 1, 8, 2), call)
    assert reason is not None
    raise reason


def _to_float8(tensor: torch.Tensor, dimension: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    size = tensor.float().abs()
    peak = size.amax() if dimension is None else size.amax(dimension, keepdim=True)
    scale = peak / torch.finfo(_FLOAT8).max
    return (tensor.float() / scale).to(_FLOAT8), scale


def _float8_config() -> AOBaseConfig:
    by_row = torch.cuda.get_device_capability() >= (9, 0)
    return Float8DynamicActivationFloat8WeightConfig(granularity=PerRow() if by_row else PerTensor())


def _torchao(layer: Layer, name: str, config: AOBaseConfig, arithmetic: str) -> Candidate:
    rows, columns = layer.weight.shape
    module = nn.Linear(columns, rows, bias=False, device="cuda", dtype=layer.weight.dtype)
    module.weight = nn.Parameter(layer.weight.clone(), requires_grad=False)
    quantize_(module, config)
    compiled = torch.compile(module, dynamic=False)
    return Candidate(f"{name}, compiled", Work(arithmetic, 2, 8, 2), lambda: compiled(layer.x))

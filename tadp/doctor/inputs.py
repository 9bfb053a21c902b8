"""Inputs that kernels are tried on: few shapes, with tails at every kind of step, made on the CPU from fixed seeds."""

from dataclasses import dataclass

import torch

from tadp.kernels import reference
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.kernels.block_map import KEY_BLOCK, blocks_of
from tadp.kernels.values import Codes, Epilogue, Planes


@dataclass(frozen=True)
class LinearShape:
    """A product to try: its tokens, rows and columns, the columns that share a scale, and what follows it."""

    tokens: int
    rows: int
    columns: int
    group_size: int | None = None
    nonlinearity: str = "none"

    def __str__(self) -> str:
        groups = f", groups of {self.group_size}" if self.group_size else ""
        follows = "" if self.nonlinearity == "none" else f", {self.nonlinearity}"
        return f"{self.tokens} x {self.columns} -> {self.rows}{groups}{follows}"


LINEAR_SHAPES = (
    LinearShape(1, 17, 64),
    LinearShape(5, 64, 96, nonlinearity="silu"),
    LinearShape(16, 33, 260),
    LinearShape(50, 130, 516, nonlinearity="gelu"),
    LinearShape(97, 100, 320, 64, "gelu_tanh"),
)


def activations(shape: LinearShape, dtype: torch.dtype) -> torch.Tensor:
    """Normal values ``(tokens, columns)``; every third token has one a thousand times larger, every fifth is zero."""
    x = torch.randn(shape.tokens, shape.columns, generator=_seeded(1))
    x[::3, 7] *= 1000
    x[4::5] = 0
    return x.to(dtype)


def weight_of(shape: LinearShape) -> BitPlaneWeight:
    """A packed weight ``(rows, columns)``."""
    return BitPlaneWeight.from_hp(torch.randn(shape.rows, shape.columns, generator=_seeded(2)) * 0.05, shape.group_size)


def epilogue_of(shape: LinearShape, dtype: torch.dtype) -> Epilogue:
    """With a bias."""
    return Epilogue(torch.randn(shape.rows, generator=_seeded(3)).to(dtype), shape.nonlinearity, dtype)


def codes_of(shape: LinearShape) -> Codes:
    """Activations, quantized by the reference."""
    return reference.quantize(activations(shape, torch.float32), weight_of(shape).groups)


@dataclass(frozen=True)
class AttentionShape:
    """An attention product to try; `kind` is "plain", "padded" for a mask, or "sparse" for a block map."""

    heads: int
    queries: int
    keys: int
    dim: int
    kind: str = "plain"

    def __str__(self) -> str:
        return f"{self.heads} heads of {self.dim}, {self.queries} x {self.keys} tokens, {self.kind}"


ATTENTION_SHAPES = (
    AttentionShape(2, 67, 193, 64),
    AttentionShape(1, 131, 70, 128),
    AttentionShape(2, 64, 200, 64, "padded"),
    AttentionShape(2, 256, 256, 64, "sparse"),
)


@dataclass(frozen=True)
class AttentionInputs:
    """Arguments of the operator."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mask: torch.Tensor | None
    block_map: torch.Tensor | None


def attention_inputs(shape: AttentionShape, dtype: torch.dtype, query_block: int) -> AttentionInputs:
    """Normal values with a mean of their own in each channel; rows of a map speak for `query_block` queries."""
    generator = _seeded(4)

    def tokens(count: int) -> torch.Tensor:
        x = torch.randn(1, count, shape.heads, shape.dim, generator=generator)
        return (x + torch.randn(1, 1, shape.heads, shape.dim, generator=generator)).to(dtype).transpose(1, 2)

    q, k, v = tokens(shape.queries), tokens(shape.keys), tokens(shape.keys)
    mask = (torch.arange(shape.keys) < shape.keys - 9).view(1, 1, 1, -1) if shape.kind == "padded" else None
    block_map = None
    if shape.kind == "sparse":
        size = (1, shape.heads, blocks_of(shape.queries, query_block), blocks_of(shape.keys, KEY_BLOCK))
        block_map = torch.rand(size, generator=generator) < 0.5
        block_map[..., 0] = True
    return AttentionInputs(q, k, v, mask, block_map)


def on_device(values: Codes | Planes | Epilogue, device: torch.device) -> tuple[object, ...]:
    """The parts of a value, with its tensors on a device."""
    return tuple(part.to(device) if isinstance(part, torch.Tensor) else part for part in values)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)

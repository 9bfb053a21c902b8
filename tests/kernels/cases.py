"""Inputs of the operator tests, and the bound that a product may be off by."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import strategies as st

from tadp.kernels import BitPlaneWeight, planes, reference
from tadp.kernels.isa import NAMES, is_available
from tadp.kernels.operators import flatten, unflatten
from tadp.kernels.values import Codes, Epilogue, Planes
from tests.kernels.bounds import linear_exact_and_bound, plain_bound

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
WIDTHS = (8, 6, 4)

# Odd, prime, one, around the 16, 32 and 64 columns of a kernel's step and at every kind of rest behind it, around the
# multiple of four to which planes are padded.
COLUMNS = st.sampled_from([1, 2, 3, 4, 5, 7, 12, 15, 16, 17, 28, 31, 32, 33, 60, 63, 64, 65, 67, 92, 97, 128, 192, 257])
ROWS = st.sampled_from([1, 2, 15, 16, 17, 33, 48, 63, 64, 65, 100, 130])
TOKENS = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 11, 13, 47, 48, 49, 50, 60, 97])
SEEDS = st.integers(0, 2**31 - 1)
NONLINEARITIES = tuple(reference.NONLINEARITIES)
GROUPED = st.sampled_from([(64, 64), (128, 64), (128, 128), (192, 64), (320, 64), (384, 128), (512, None)])
"""Columns, and how many of them share a scale."""


ISAS = tuple(filter(is_available, NAMES))

needs_vector_isas = pytest.mark.skipif(len(ISAS) < 2, reason="this processor runs the portable kernels only")


def taking_arguments(function: Callable[..., torch.Tensor], operator: str = "linear") -> Callable[..., torch.Tensor]:
    """A function of values that takes an operator's arguments instead; a kernel's name is handed on."""

    def call(*flat: Any, **named: Any) -> torch.Tensor:
        *values, kernel_name = unflatten(operator, *flat, **named)
        return function(*values, *((kernel_name,) if kernel_name else ()))

    return call


@dataclass(frozen=True)
class Product:
    """Arguments of one linear."""

    codes: torch.Tensor
    scale: torch.Tensor
    sum: torch.Tensor
    weight: BitPlaneWeight
    bias: torch.Tensor | None
    nonlinearity: str = "none"

    def run(
        self,
        width: int,
        dtype: torch.dtype,
        function: Callable[..., torch.Tensor] | None = None,
        widths: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The product at a width, or with rows at widths of their own, by the operator or by a function of values."""
        codes, planes, epilogue = self.values(width, dtype)
        planes = planes._replace(widths=widths)
        if function is None:
            return torch.ops.tadp.linear(*flatten(codes, planes, epilogue))  # type: ignore[no-any-return]
        return function(codes, planes, epilogue)

    def values(self, width: int, dtype: torch.dtype) -> tuple[Codes, Planes, Epilogue]:
        """What references and kernels take."""
        codes = Codes(self.codes, self.scale, self.sum)
        return codes, self.weight.planes(width), Epilogue(self.bias, self.nonlinearity, dtype)

    def arguments(self, width: int, dtype: torch.dtype) -> dict[str, Any]:
        """What the operator takes, by name, as the schema has them."""
        planes = self.weight.planes(width)
        return {
            "codes": self.codes,
            "scale": self.scale,
            "sum": self.sum,
            "high": planes.high,
            "mid": planes.mid,
            "low": planes.low,
            "weight_scale": self.weight.scale,
            "bias": self.bias,
            "dtype": dtype,
            "nonlinearity": self.nonlinearity,
        }

    def exact_and_bound(self, width: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """The result in float64, and the most by which that of csrc/cpu may differ from it."""
        return linear_exact_and_bound(*self.values(width, dtype))


def tokens_with_outliers(seed: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Normal values; every third token has one value a thousand times larger, every fifth is zero."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    flat = x.view(-1, shape[-1])
    if flat.numel():
        flat[::3, seed % shape[-1]] *= 1000
        flat[::5] = 0
    return x.to(dtype)


def random_codes(seed: int, rows: int, columns: int) -> torch.Tensor:
    """Weight codes over the full range, extremes included."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, columns), generator=generator, dtype=torch.uint8)


def random_widths(seed: int, rows: int) -> torch.Tensor:
    """A width for each row of a weight, as the operator linear takes them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor(WIDTHS, dtype=torch.uint8)[torch.randint(len(WIDTHS), (rows,), generator=generator)]


def integer_product(seed: int, tokens: int, rows: int, columns: int) -> Product:
    """Codes over their full ranges under scales of one: every result is a whole number or a half."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(-127, 128, (tokens, columns), generator=generator, dtype=torch.int8)
    cut = planes.cut(random_codes(seed + 1, rows, columns))
    weight = BitPlaneWeight(*cut, torch.ones(rows), columns, torch.float32)
    return Product(codes, torch.ones(tokens), codes.sum(-1, dtype=torch.int32), weight, None)


def padded_with_codes(product: Product, code: int = 255) -> Product:
    """The same product with any code where planes are padded, which is behind the columns and must not count."""
    weight = product.weight
    codes = planes.join(weight.high, weight.mid, weight.low, planes.padded_columns(weight.columns))
    codes[:, weight.columns :] = code
    padded = BitPlaneWeight(*planes.cut(codes), weight.scale, weight.columns, weight.dtype)
    return replace(product, weight=padded)


def real_product(
    seed: int,
    tokens: int,
    rows: int,
    columns: int,
    bias_dtype: torch.dtype | None,
    group_size: int | None = None,
    nonlinearity: str = "none",
) -> Product:
    generator = torch.Generator().manual_seed(seed + 1)
    weight = BitPlaneWeight.from_hp(torch.randn(rows, columns, generator=generator) * 0.05, group_size)
    codes, scale, total = reference.quantize(tokens_with_outliers(seed, (tokens, columns)), weight.groups)
    bias = None if bias_dtype is None else torch.randn(rows, generator=generator).to(bias_dtype)
    return Product(codes, scale, total, weight, bias, nonlinearity)


def product_bound(value: torch.Tensor, product: Product, dtype: torch.dtype) -> torch.Tensor:
    """Most by which an operator's result may differ from the float64 ``value``."""
    codes = Codes(product.codes, product.scale, product.sum)
    return plain_bound(value, codes, product.weight.scale, product.bias, dtype)

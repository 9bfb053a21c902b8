"""The Triton kernel of dequantize in Triton's interpreter; see interpreted_linear.py."""

import pytest
import torch
import triton
from torch.nn import functional

from tadp.kernels import BitPlaneWeight, planes, reference
from tadp.kernels.triton.dequantize import dequantize, linear_by_dequantizing
from tadp.kernels.values import Epilogue, Planes
from tests.kernels.cases import FLOATS, NONLINEARITIES, WIDTHS, random_codes, tokens_with_outliers

pytestmark = pytest.mark.skipif(not triton.knobs.runtime.interpret, reason="TRITON_INTERPRET is not set")

SHAPES = ((1, 1), (3, 2), (7, 5), (16, 512), (17, 516), (33, 260), (40, 67), (70, 128))
SCALES = (1e-30, 3e-5, 0.01, 1.0, 7.3, 1e30, 1e36)
"""Of weights that float16 makes subnormal, zero or infinite too. (The interpreter loses subnormal bfloat16.)"""


def random_weight(seed: int, rows: int, columns: int, groups: int = 0) -> Planes:
    """Codes of every value, and scales of either sign and any size."""
    generator = torch.Generator().manual_seed(seed)
    shape = (rows, groups) if groups else (rows,)
    size = torch.tensor(SCALES)[torch.randint(len(SCALES), shape, generator=generator)]
    scale = size * torch.randn(shape, generator=generator)
    if groups:
        scale = planes.laid_out_by_group(scale)
    return Planes(*planes.cut(random_codes(seed, rows, columns)), scale)


def assert_same_bits(weight: Planes, columns: int, dtype: torch.dtype) -> None:
    found = dequantize(weight, columns, dtype)
    assert found.dtype == dtype
    assert torch.equal(found, reference.dequantize(weight, columns, dtype))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_bits_of_the_reference(rows: int, columns: int, dtype: torch.dtype, width: int) -> None:
    assert_same_bits(random_weight(rows, rows, columns).at(width), columns, dtype)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("columns", [128, 384, 1024])
def test_groups(columns: int, size: int, width: int) -> None:
    for seed, dtype in enumerate(FLOATS):
        weight = random_weight(seed, 19, columns, columns // size).at(width)
        assert_same_bits(weight, columns, dtype)
        assert_same_bits(weight._replace(scale=weight.scale.contiguous()), columns, dtype)


def test_every_code() -> None:
    codes = torch.arange(256, dtype=torch.uint8).repeat(2, 1)
    weight = Planes(*planes.cut(codes), torch.tensor([1.0, -0.123]))
    for width in WIDTHS:
        for dtype in FLOATS:
            assert_same_bits(weight.at(width), 256, dtype)


def test_strided_planes() -> None:
    weight = random_weight(3, 24, 36)
    high, mid, low, scale = (torch.stack([part, part], -1)[..., 0] for part in weight[:4] if part is not None)
    assert torch.equal(
        dequantize(Planes(high, mid, low, scale), 36, torch.float16), dequantize(weight, 36, torch.float16)
    )


@pytest.mark.parametrize(("rows", "columns"), [(0, 8), (5, 0), (0, 0)])
def test_empty_weights(rows: int, columns: int) -> None:
    weight = BitPlaneWeight.from_hp(torch.zeros(rows, columns))
    assert dequantize(weight.planes(8), columns, torch.bfloat16).shape == (rows, columns)
    bias = torch.arange(float(rows))
    assert torch.equal(
        linear_by_dequantizing(torch.ones(3, columns), weight.planes(8), Epilogue(bias)), bias.expand(3, rows)
    )


def test_refuses_planes_that_do_not_fit() -> None:
    weight = random_weight(1, 4, 8)
    with pytest.raises(RuntimeError, match="high does not fit a weight of 12 columns"):
        dequantize(weight, 12, torch.float32)
    with pytest.raises(RuntimeError, match="dtype must be float32, bfloat16 or float16"):
        dequantize(weight, 8, torch.float64)


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("leading", [(), (5,), (2, 0), (2, 3)])
def test_the_product_is_that_of_the_library(leading: tuple[int, ...], nonlinearity: str) -> None:
    for width, dtype, bias_dtype in zip(WIDTHS, FLOATS, (None, torch.float32, torch.bfloat16), strict=True):
        x = tokens_with_outliers(1, (*leading, 128), dtype)
        weight = BitPlaneWeight.from_hp(torch.randn(20, 128, generator=torch.Generator().manual_seed(2)), 64).planes(
            width
        )
        bias = (
            None if bias_dtype is None else torch.randn(20, generator=torch.Generator().manual_seed(3)).to(bias_dtype)
        )
        restored = reference.dequantize(weight, 128, dtype)
        product = functional.linear(x, restored, None if bias is None else bias.to(dtype))
        found = linear_by_dequantizing(x, weight, Epilogue(bias, nonlinearity))
        assert found.dtype == dtype
        assert torch.equal(found, reference.NONLINEARITIES[nonlinearity](product))

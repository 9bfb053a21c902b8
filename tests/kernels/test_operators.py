import pytest
import torch

from tadp.kernels import BitPlaneWeight
from tests.kernels.cases import FLOATS, WIDTHS, random_widths


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(5, 16), (2, 3, 7), (0, 8)])
def test_opcheck_quantize(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    torch.library.opcheck(torch.ops.tadp.quantize.default, (torch.randn(shape).to(dtype),))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("biased", [True, False])
def test_opcheck_linear(width: int, biased: bool) -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(10, 18))
    quantized = torch.ops.tadp.quantize(torch.randn(2, 3, 18))
    bias = torch.randn(10) if biased else None
    torch.library.opcheck(torch.ops.tadp.linear.default, (*quantized, *weight.planes(width)[:4], bias, torch.bfloat16))


def test_opcheck_linear_with_rows_of_own_widths() -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(10, 18))
    quantized = torch.ops.tadp.quantize(torch.randn(2, 3, 18))
    arguments = (*quantized, *weight.planes(8)[:4], None, torch.bfloat16)
    torch.library.opcheck(torch.ops.tadp.linear.default, arguments, {"widths": random_widths(1, 10)})


@pytest.mark.parametrize("width", WIDTHS)
def test_opcheck_dequantize(width: int) -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(10, 18))
    torch.library.opcheck(torch.ops.tadp.dequantize.default, (*weight.planes(width)[:4], 18, torch.bfloat16))

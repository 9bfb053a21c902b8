import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.kernels import BitPlaneWeight, planes, reference
from tadp.kernels.isa import cpu_isa
from tests.kernels.bounds import dequantized_bound
from tests.kernels.cases import COLUMNS, FLOATS, ISAS, ROWS, SEEDS, WIDTHS, random_codes


@pytest.mark.parametrize("isa", ISAS)
@settings(deadline=None, max_examples=60)
@given(SEEDS, ROWS, COLUMNS, st.sampled_from(WIDTHS), st.sampled_from(FLOATS))
def test_within_two_roundings(isa: str, seed: int, rows: int, columns: int, width: int, dtype: torch.dtype) -> None:
    scale = torch.randn(rows, generator=torch.Generator().manual_seed(seed))
    weight = BitPlaneWeight(*planes.cut(random_codes(seed, rows, columns)), scale, columns, dtype)
    exact = reference.dequantize(weight.planes(width), columns, torch.float64)
    with cpu_isa(isa):
        found = weight.dequantize(width)
    assert found.dtype == dtype
    assert found.shape == (rows, columns)
    assert ((found.double() - exact).abs() <= dequantized_bound(exact, dtype)).all()


@pytest.mark.parametrize("isa", ISAS)
def test_empty(isa: str) -> None:
    with cpu_isa(isa):
        for shape in ((0, 8), (5, 0), (0, 0)):
            assert BitPlaneWeight.from_hp(torch.zeros(shape)).dequantize().shape == shape


def test_refuses() -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(4, 8))
    for columns in (7, 12):
        arguments = (*weight.planes(8)[:4], columns, torch.float32)
        if columns == 7:  # padded to eight as well: a valid reading of the same planes
            assert torch.equal(torch.ops.tadp.dequantize(*arguments), weight.dequantize()[:, :7])
        else:
            with pytest.raises(RuntimeError, match="for a weight of 4 rows and 12 columns"):
                torch.ops.tadp.dequantize(*arguments)
    with pytest.raises(RuntimeError, match="dtype must be float32"):
        torch.ops.tadp.dequantize(*weight.planes(8)[:4], 8, torch.int8)
    with pytest.raises(RuntimeError, match="weight_scale must have shape"):
        torch.ops.tadp.dequantize(*weight.planes(8)[:3], weight.scale[:2], 8, torch.float32)

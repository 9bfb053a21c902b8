"""The kernel of bench/kernels/retiled.py, which is compiled there only, in Triton's interpreter."""

import pytest
import torch
import triton

from bench.kernels.retiled import WAYS, retiled_kernel
from tadp.kernels import planes
from tests.kernels.cases import real_product

pytestmark = pytest.mark.skipif(not triton.knobs.runtime.interpret, reason="TRITON_INTERPRET is not set")


@pytest.mark.parametrize("way", WAYS)
def test_planes_of_runs_give_the_same_product(way: str) -> None:
    tokens, rows, columns = 20, 33, 384
    product = real_product(1, tokens, rows, columns, None)
    weight = product.weight
    codes = planes.join(weight.high, weight.mid, weight.low, columns)
    cut = planes.cut(codes.reshape(-1, 128))  # the quarters of each run of 128 columns side by side
    high, mid, low = (plane.reshape(rows, -1) for plane in cut)
    out = torch.empty(tokens, rows)
    sizes = (tokens, rows, columns // 4)
    retiled_kernel[(2, 2)](
        product.codes, product.scale, product.sum, high, mid, low, weight.scale, out, *sizes, None, way, 32, 16
    )
    assert torch.equal(out, product.run(8, torch.float32))

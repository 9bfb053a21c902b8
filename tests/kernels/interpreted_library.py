"""The product by the library's integers, in Triton's interpreter; test_triton_linear.py runs this file."""

import pytest
import torch
import triton

from tadp.kernels.triton.library import linear_by_library
from tests.kernels.cases import WIDTHS, integer_product, real_product

SHAPES = ((1, 1, 1), (5, 7, 5), (17, 127, 257), (33, 40, 512), (3, 16, 1040))

pytestmark = pytest.mark.skipif(not triton.knobs.runtime.interpret, reason="TRITON_INTERPRET is not set")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("tokens", "rows", "columns"), SHAPES)
def test_has_the_bits_of_the_other_kernels(tokens: int, rows: int, columns: int, width: int) -> None:
    for product in (
        integer_product(tokens, tokens, rows, columns),
        real_product(0, tokens, rows, columns, torch.float16),
    ):
        found = product.run(width, torch.float32, linear_by_library)
        assert torch.equal(found, product.run(width, torch.float32))

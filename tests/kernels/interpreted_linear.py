"""The Triton kernel of linear in Triton's interpreter; test_triton_linear.py runs this file in a process of its own.

The interpreter works on numpy arrays, which have no bfloat16: where a GPU rounds to it, the interpreter cuts bits off.
Results of that type are therefore compared with cut ones here; that the compiled kernel rounds is in
test_triton_compile.py.
"""

import pytest
import torch
import triton

from tadp.kernels import BitPlaneWeight, planes, reference
from tadp.kernels.operators import flatten
from tadp.kernels.triton.tile import tile_for
from tadp.kernels.values import Epilogue
from tests.kernels.cases import (
    WIDTHS,
    Product,
    integer_product,
    padded_with_codes,
    product_bound,
    random_widths,
    real_product,
    taking_arguments,
    tokens_with_outliers,
)
from tests.kernels.launchers import linear

# One, primes, one more and one less than tiles of 16, 64 and 128; columns around the padding and around whole steps.
SHAPES = (
    (1, 1, 1),
    (1, 64, 256),
    (2, 3, 2),
    (3, 1, 3),
    (5, 7, 5),
    (7, 65, 67),
    (15, 63, 255),
    (16, 64, 512),
    (17, 127, 257),
    (31, 130, 97),
    (63, 33, 260),
    (65, 128, 128),
    (129, 129, 131),
    (257, 131, 384),
)
TYPES = (  # of result and bias
    (torch.float32, None),
    (torch.float32, torch.float16),
    (torch.bfloat16, torch.bfloat16),
    (torch.float16, torch.float32),
)

pytestmark = pytest.mark.skipif(not triton.knobs.runtime.interpret, reason="TRITON_INTERPRET is not set")


def expected_bits(product: Product, width: int, dtype: torch.dtype) -> torch.Tensor:
    if dtype != torch.bfloat16:
        return product.run(width, dtype)
    cut = product.run(width, torch.float32).view(torch.int32) & ~0xFFFF
    return cut.view(torch.float32).bfloat16()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("tokens", "rows", "columns"), SHAPES)
def test_integer_sums_are_exact(tokens: int, rows: int, columns: int, width: int) -> None:
    product = integer_product(tokens, tokens, rows, columns)
    found = product.run(width, torch.float32, linear)
    assert torch.equal(found.double(), product.run(width, torch.float64, reference.linear))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("tokens", "rows", "columns"), SHAPES)
def test_real_products(tokens: int, rows: int, columns: int, width: int) -> None:
    for index, (dtype, bias) in enumerate(TYPES):
        product = real_product(index, tokens, rows, columns, bias)
        found = product.run(width, dtype, linear)
        assert found.dtype == dtype
        assert torch.equal(found, expected_bits(product, width, dtype))  # as the CPU's kernel has it
        if dtype != torch.bfloat16:
            exact = product.run(width, torch.float64, reference.linear)
            fits = exact.abs() < torch.finfo(dtype).max
            error = (found.double() - exact).abs()
            assert (error <= product_bound(exact, product, dtype))[fits].all()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("sign", [1, -1])
def test_longest_row_does_not_overflow(width: int, sign: int) -> None:
    columns = 65536
    cut = planes.cut(torch.tensor([[255], [0]], dtype=torch.uint8).expand(2, columns))
    weight = BitPlaneWeight(*cut, torch.ones(2), columns, torch.float32)
    codes = torch.full((1, columns), 127 * sign, dtype=torch.int8)
    product = Product(codes, torch.ones(1), codes.sum(-1, dtype=torch.int32), weight, None)
    exact = product.run(width, torch.float64, reference.linear)
    found = product.run(width, torch.float32, linear)
    assert ((found.double() - exact).abs() <= product_bound(exact, product, torch.float32)).all()


@pytest.mark.parametrize("width", WIDTHS)
def test_what_pads_planes_does_not_count(width: int) -> None:
    for tokens, columns in ((1, 5), (7, 97), (20, 62)):
        product = integer_product(columns, tokens, 9, columns)
        found = padded_with_codes(product).run(width, torch.float32, linear)
        assert torch.equal(found, product.run(width, torch.float32))


@pytest.mark.parametrize("width", WIDTHS)
def test_nan_reaches_its_own_token_only(width: int) -> None:
    x = tokens_with_outliers(3, (9, 65))
    weight = BitPlaneWeight.from_hp(torch.randn(70, 65, generator=torch.Generator().manual_seed(4)))
    clean = linear(reference.quantize(x), weight.planes(width), Epilogue(dtype=torch.float32))
    x[4, 1] = torch.nan
    found = linear(reference.quantize(x), weight.planes(width), Epilogue(dtype=torch.float32))
    assert found[4].isnan().all()
    others = torch.arange(9) != 4
    assert torch.equal(found[others], clean[others])


@pytest.mark.parametrize("leading", [(), (1,), (0,), (2, 3), (2, 0, 4), (1, 2, 3, 4)])
def test_leading_dimensions(leading: tuple[int, ...]) -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(20, 13, generator=torch.Generator().manual_seed(5)))
    quantized = reference.quantize(tokens_with_outliers(6, (*leading, 13)))
    values = (quantized, weight.planes(8), Epilogue(dtype=torch.float32))
    assert torch.equal(linear(*values), torch.ops.tadp.linear(*flatten(*values)))


@pytest.mark.parametrize(("rows", "columns"), [(0, 8), (5, 0), (0, 0)])
def test_empty_weights(rows: int, columns: int) -> None:
    weight = BitPlaneWeight.from_hp(torch.zeros(rows, columns))
    bias = torch.arange(float(rows))
    quantized = reference.quantize(torch.ones(3, columns))
    found = linear(quantized, weight.planes(8), Epilogue(bias, dtype=torch.float32))
    assert torch.equal(found, bias.expand(3, rows))


def test_strided_arguments() -> None:
    product = real_product(5, 12, 24, 32, torch.float32)
    expected = product.run(8, torch.float32)
    arguments = (product.codes, product.scale, product.sum, *product.weight.planes(8)[:4])
    spread = [torch.stack([tensor, tensor], -1)[..., 0] for tensor in (*arguments, product.bias)]
    assert not any(tensor.is_contiguous() for tensor in spread)
    assert torch.equal(taking_arguments(linear)(*spread, torch.float32), expected)


def test_more_tiles_than_a_group_holds() -> None:
    tokens = 9 * tile_for(1000, 300, 8, 8, (9, 0)).tokens + 3
    product = real_product(7, tokens, 300, 8, None)
    assert torch.equal(product.run(8, torch.float32, linear), product.run(8, torch.float32))


def test_planes_of_other_widths_are_not_read() -> None:
    product = real_product(8, 3, 5, 64, None)
    product.weight.low.random_(0, 256, generator=torch.Generator().manual_seed(9))
    before = [product.run(width, torch.float32, linear) for width in (6, 4)]
    product.weight.low.zero_()
    assert torch.equal(product.run(6, torch.float32, linear), before[0])
    product.weight.mid.zero_()
    assert torch.equal(product.run(4, torch.float32, linear), before[1])


@pytest.mark.parametrize(("tokens", "rows", "columns"), SHAPES)
def test_rows_of_own_widths(tokens: int, rows: int, columns: int) -> None:
    for index, (dtype, bias) in enumerate(TYPES[1::2]):
        product = real_product(index, tokens, rows, columns, bias)
        widths = random_widths(index, rows)
        found = product.run(8, dtype, linear, widths)
        whole = {width: product.run(width, dtype, linear) for width in WIDTHS}
        expected = torch.stack([whole[width][:, row] for row, width in enumerate(widths.tolist())], -1)
        assert torch.equal(found, expected)
        if dtype == torch.float32:
            assert torch.equal(found, product.run(8, dtype, widths=widths))


def test_rows_of_own_widths_are_not_split() -> None:
    product = real_product(1, 4, 20, 4096, None)
    assert tile_for(4, 20, 4096, 8, (9, 0)).splits > 1
    widths = random_widths(2, 20)
    found = product.run(8, torch.float32, linear, widths)
    assert torch.equal(found, product.run(8, torch.float32, widths=widths))


@pytest.mark.parametrize("columns", [97, 256])
def test_rows_do_not_read_planes_beyond_their_width(columns: int) -> None:
    product = real_product(3, 5, 70, columns, None)
    widths = random_widths(4, 70)
    before = product.run(8, torch.float32, linear, widths)
    product.weight.low[widths < 8] ^= 255
    product.weight.mid[widths < 6] ^= 255
    assert torch.equal(product.run(8, torch.float32, linear, widths), before)
    product.weight.low[widths == 8] ^= 255
    assert not torch.equal(product.run(8, torch.float32, linear, widths), before)


def test_rows_of_unknown_widths_are_nan() -> None:
    # A kernel cannot raise, and looking at the values before it is launched would wait for the GPU.
    product = real_product(5, 3, 9, 64, None)
    widths = torch.tensor([8, 6, 4, 0, 5, 7, 255, 8, 4], dtype=torch.uint8)
    for function in (linear, reference.linear):
        found = product.run(8, torch.float32, function, widths)
        assert found.isnan().any(0).tolist() == [False] * 3 + [True] * 4 + [False] * 2


@pytest.mark.parametrize("kernel", ["triton-64x16x32-w4-s4-k4", "triton-tma-64x32x32-w4-s3"])
def test_rows_of_own_widths_refuse_splits_and_descriptors(kernel: str) -> None:
    product = real_product(1, 3, 8, 128, None)
    codes, planes, epilogue = product.values(8, torch.float32)
    with pytest.raises(ValueError, match=f"{kernel}: a kernel that splits columns or reads through descriptors"):
        linear(codes, planes._replace(widths=random_widths(1, 8)), epilogue, kernel)

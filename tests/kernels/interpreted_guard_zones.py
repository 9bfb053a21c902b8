"""No kernel touches memory that belongs to none of its arguments, at any tail; see guard_zones.py."""

from collections.abc import Iterator

import pytest
import torch
import triton
import triton.language as tl

from tadp.kernels import reference
from tadp.kernels.block_map import map_shape
from tadp.kernels.triton.attention import attention
from tadp.kernels.triton.attention_tile import OPERANDS
from tadp.kernels.triton.library import linear_by_library
from tadp.kernels.triton.sparse_attention import sparse_attention
from tadp.kernels.values import Epilogue
from tests.kernels.cases import WIDTHS, random_widths, real_product
from tests.kernels.guard_zones import OutsideError, watched
from tests.kernels.launchers import linear, weight_only_linear

pytestmark = pytest.mark.skipif(not triton.knobs.runtime.interpret, reason="TRITON_INTERPRET is not set")

LINEAR = (
    "triton-64x16x32-w4-s4",
    "triton-64x16x32-w4-s4-k4",
    "triton-deep-32x16x16-w2-s1-k2",
    "triton-32x16x32-w2-s1-k8",
)
TAILS = ((1, 1, 1), (3, 5, 6), (17, 65, 67), (16, 64, 128), (5, 65, 267))
"""Tokens, rows and columns: one, one more than tiles, one less, and whole tiles."""


@pytest.fixture(autouse=True)
def _watch() -> Iterator[None]:
    with watched() as launches:
        yield
    assert launches, "no kernel ran"


@triton.jit
def copy_kernel(x, out, count, reads: tl.constexpr, writes: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    place = tl.arange(0, block)
    value = tl.load(x + place, mask=place < count + reads, other=0)
    tl.store(out + place, value, mask=place < count + writes)


def test_a_kernel_that_stays_inside_passes() -> None:
    x, out = torch.arange(5.0), torch.zeros(5)
    copy_kernel[(1,)](x, out, 5, reads=0, writes=0, block=8)
    assert torch.equal(out, x)


@pytest.mark.parametrize(("reads", "writes", "what"), [(1, 0, "a load of 1"), (0, 2, "a store of 2")])
def test_a_step_outside_is_noticed(reads: int, writes: int, what: str) -> None:
    x, out = torch.arange(5.0), torch.zeros(5)
    with pytest.raises(Exception, match=what) as raised:
        copy_kernel[(1,)](x, out, 5, reads=reads, writes=writes, block=8)
    assert OutsideError.__name__ in str(raised.value)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("tokens", "rows", "columns"), TAILS)
def test_linear(tokens: int, rows: int, columns: int, width: int) -> None:
    product = real_product(1, tokens, rows, columns, torch.float16)
    expected = product.run(width, torch.float32)
    for kernel in ("", *LINEAR):
        found = linear(*product.values(width, torch.float32), kernel_name=kernel)
        assert torch.equal(found, expected)


def test_linear_with_rows_of_own_widths() -> None:
    product = real_product(2, 17, 65, 67, None)
    codes, planes, epilogue = product.values(8, torch.float32)
    planes = planes._replace(widths=random_widths(3, 65))
    assert linear(codes, planes, epilogue).isfinite().all()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [64, 128])
def test_groups(size: int, width: int) -> None:
    product = real_product(4, 17, 65, 3 * size, None, size)
    assert linear(*product.values(width, torch.float32)).isfinite().all()
    weight = product.weight.planes(width)
    x = torch.randn(5, 3 * size, generator=torch.Generator().manual_seed(5))
    assert weight_only_linear(x, weight, Epilogue(dtype=x.dtype)).isfinite().all()


@pytest.mark.parametrize("kernel", ["triton-tma-64x32x32-w4-s3"])
@pytest.mark.parametrize(("tokens", "rows"), [(1, 1), (33, 65)])
def test_descriptors(tokens: int, rows: int, kernel: str) -> None:
    product = real_product(6, tokens, rows, 256, torch.float32)
    assert torch.equal(linear(*product.values(8, torch.float32), kernel_name=kernel), product.run(8, torch.float32))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("tokens", "rows", "columns"), TAILS)
def test_products_by_the_library(tokens: int, rows: int, columns: int, width: int) -> None:
    product = real_product(7, tokens, rows, columns, None)
    found = product.run(width, torch.float32, linear_by_library)
    assert torch.equal(found, product.run(width, torch.float32))


@pytest.mark.parametrize("kernel", ["", "triton-64x16x16-w4-s4-k4"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("tokens", "rows", "columns"), TAILS)
def test_weight_only_linear(tokens: int, rows: int, columns: int, width: int, kernel: str) -> None:
    product = real_product(8, tokens, rows, columns, torch.float32)
    x = torch.randn(tokens, columns, generator=torch.Generator().manual_seed(9))
    epilogue = Epilogue(product.bias, dtype=x.dtype)
    assert weight_only_linear(x, product.weight.planes(width), epilogue, kernel).isfinite().all()


@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 32), (2, 1, 5, 7, 40), (1, 2, 17, 33, 64), (1, 1, 33, 67, 80)])
def test_attention(shape: tuple[int, int, int, int, int], operands: str) -> None:
    batch, heads, queries, keys, dim = shape
    generator = torch.Generator().manual_seed(sum(shape))
    q, k, v = (torch.randn(batch, heads, count, dim, generator=generator) for count in (queries, keys, keys))
    seen = torch.rand(batch, heads, queries, keys, generator=generator) > 0.3
    name = f"triton-{operands}-16x32-w1-s2"
    for mask in (None, seen, seen[:, :, :1], torch.where(seen, 0.0, -1.0).half()):
        assert attention(q, k, v, mask, kernel_name=name).isfinite().all()


@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize(("queries", "keys", "row_queries"), [(1, 1, 64), (65, 131, 64), (130, 200, 128)])
def test_sparse_attention(queries: int, keys: int, row_queries: int, operands: str) -> None:
    generator = torch.Generator().manual_seed(queries)
    q, k, v = (torch.randn(1, 2, count, 40, generator=generator) for count in (queries, keys, keys))
    block_map = torch.rand(map_shape(q, k, row_queries), generator=generator) < 0.5
    block_map[..., -1] = True
    found = sparse_attention(q, k, v, block_map, kernel_name=f"triton-{operands}-32x32-w1-s2")
    mask = reference.tokens_of_blocks(block_map, queries, keys)
    exact = reference.attention(q, k, v, mask, dtype=torch.float64)
    assert (found - exact).abs().max() < 0.2

"""The arithmetic of the CUDA kernels, compiled for the host: it needs no GPU to be held against the reference."""

import ctypes
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.kernels import planes, reference
from tadp.kernels.formats import FORMATS
from tadp.kernels.values import Codes, Epilogue, Planes
from tests.kernels.cases import COLUMNS, FLOATS, SEEDS, WIDTHS, random_codes, real_product, tokens_with_outliers
from tests.kernels.on_host import build, pointer

pytestmark = [pytest.mark.spawns, pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")]

NONLINEARITIES = ("gelu", "gelu_tanh", "silu")

# Around the 2,048 columns that a warp takes at a time, and the 64 of a lane.
LONG = st.sampled_from([64, 128, 192, 1536, 1984, 2048, 2112, 4160])


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    built = tmp_path_factory.mktemp("cuda_on_host") / "cuda_on_host.so"
    return build(Path(__file__).with_name("cuda_on_host.cpp"), built, "-Wall", "-Werror", "-Wno-unknown-pragmas")


def few_tokens(
    library: ctypes.CDLL,
    quantized: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    cut: tuple[torch.Tensor | None, ...],
    weight_scale: torch.Tensor,
) -> torch.Tensor:
    codes, scale, total = quantized
    high, mid, low = (*cut, None, None)[:3]
    out = torch.full((codes.shape[0], high.shape[0]), torch.nan)
    groups = 0 if weight_scale.dim() == 1 else weight_scale.shape[1]
    by_group = weight_scale.t().contiguous()
    library.few_tokens(
        *(pointer(tensor) for tensor in (codes, scale, total)),
        *codes.shape,
        *(pointer(tensor) for tensor in (high, mid, low)),
        high.shape[0],
        pointer(by_group),
        groups,
        pointer(out),
    )
    return out


@settings(deadline=None, max_examples=80)
@given(SEEDS, st.integers(1, 16), st.integers(1, 9), COLUMNS | LONG, st.sampled_from(WIDTHS))
def test_product_has_the_bits_of_the_cpu(
    library: ctypes.CDLL, seed: int, tokens: int, rows: int, columns: int, width: int
) -> None:
    product = real_product(seed, tokens, rows, columns, None)
    weight = product.weight
    quantized = (product.codes, product.scale, product.sum)
    found = few_tokens(library, quantized, weight.planes(width)[:3], weight.scale)
    assert torch.equal(found, product.run(width, torch.float32))


@settings(deadline=None, max_examples=60)
@given(
    SEEDS,
    st.integers(1, 16),
    st.integers(1, 9),
    st.sampled_from([(64, 64), (64, 1536), (64, 2112), (64, 4160), (128, 128), (128, 2176), (128, 4224)]),
    st.sampled_from(WIDTHS),
)
def test_product_takes_groups_in_their_order(
    library: ctypes.CDLL, seed: int, tokens: int, rows: int, groups_of: tuple[int, int], width: int
) -> None:
    size, columns = groups_of
    groups = columns // size
    codes, scale, total = reference.quantize(tokens_with_outliers(seed, (tokens, columns)), groups)
    cut = planes.cut(random_codes(seed, rows, columns))[: width // 2 - 1]
    weight_scale = torch.randn(rows, groups, generator=torch.Generator().manual_seed(seed))
    high, mid, low = (*cut, None, None)[:3]

    unpacked = planes.join(high, mid, low, columns).long()
    group_of_column = planes.group_of_columns(columns, groups)
    zero = FORMATS[width].zero_point
    expected = torch.full((tokens, rows), -0.0)
    for group in range(groups):
        here = group_of_column == group
        product = (2 ** (8 - width) * (codes[:, here].long() @ unpacked[:, here].T)).int()
        value = (product - int(zero) * total[:, group, None]).float() - (zero % 1) * total[:, group, None].float()
        expected = expected + value * weight_scale[:, group]
    expected = expected * scale[:, None]

    found = few_tokens(library, (codes, scale, total), cut, weight_scale)
    assert torch.equal(found, expected)
    exact = reference.linear(
        Codes(codes, scale, total), Planes(high, mid, low, weight_scale), Epilogue(dtype=torch.float64)
    )
    # Of each group as in cases.product_bound; what is added up is rounded once a group, relative to all that was added.
    size_of_terms = (codes.double().abs() @ (2.0**8 * weight_scale.double().abs()[:, group_of_column]).T) * scale[
        :, None
    ]
    assert ((found - exact).abs() <= (groups + 5) * 2.0**-24 * size_of_terms).all()


def assert_quantizes(library: ctypes.CDLL, x: torch.Tensor) -> None:
    expected = reference.quantize(x)
    wide = x.float()
    found = tuple(torch.empty_like(part) for part in expected)
    library.quantize(pointer(wide), *x.shape, *map(pointer, found))
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)


@settings(deadline=None, max_examples=60)
@given(SEEDS, st.integers(1, 8), COLUMNS | LONG, st.sampled_from(FLOATS))
def test_quantize_equals_the_reference_to_the_bit(
    library: ctypes.CDLL, seed: int, tokens: int, columns: int, dtype: torch.dtype
) -> None:
    assert_quantizes(library, tokens_with_outliers(seed, (tokens, columns), dtype))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=40))
def test_quantize_any_float32_row(library: ctypes.CDLL, values: list[float]) -> None:
    assert_quantizes(library, torch.tensor([values]))


def test_quantize_gives_zeros_for_every_nan(library: ctypes.CDLL) -> None:
    # With bits set that a NaN of torch does not have: they would pass through products and sums to a code.
    marked = torch.tensor([0x7FC00055], dtype=torch.int32).view(torch.float32)
    assert_quantizes(library, torch.cat([torch.ones(3), marked, torch.full((1,), torch.inf)])[None])


@pytest.mark.parametrize("name", NONLINEARITIES)
def test_nonlinearities(library: ctypes.CDLL, name: str) -> None:
    x = torch.cat([torch.linspace(-20, 20, 200_001), torch.tensor([0.0, -0.0, 1e-30, 1e-3, 60.0, -100.0, 1e30])])
    found = x.clone()
    library.apply(NONLINEARITIES.index(name), pointer(found), found.numel())
    exact = reference.NONLINEARITIES[name](x.double())
    # With u = 2^-24: the exponential is off by 12 u, of which sum and quotient make 15. GELU's polynomial has terms
    # that add up to 5 with 10 roundings each, halved, and is itself off by 1.5e-7, halved too.
    bound = 25 * 2.0**-24 + 0.75e-7 + 12 * 2.0**-24 if name == "gelu" else 15 * 2.0**-24
    assert ((found.double() - exact).abs() <= bound * x.double().abs()).all()
    broken = torch.tensor([torch.nan])
    library.apply(NONLINEARITIES.index(name), pointer(broken), 1)
    assert broken.isnan().all()

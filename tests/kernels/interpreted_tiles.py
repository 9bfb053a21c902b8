"""Groups, nonlinearities and kernels by name in Triton's interpreter; see interpreted_linear.py."""

from typing import Any

import pytest
import torch
import triton

from tadp.kernels import reference
from tadp.kernels.formats import FORMATS
from tadp.kernels.triton.tile import tile_for
from tests.kernels.bounds import finished_bound, linear_bound
from tests.kernels.cases import WIDTHS, integer_product, product_bound, real_product, taking_arguments
from tests.kernels.launchers import linear as linear_of_values

NONLINEARITIES = tuple(reference.NONLINEARITIES)

SPLIT = "triton-64x16x32-w4-s4-k4"
DEEP = "triton-deep-64x32x32-w4-s3"
PERSISTENT = "triton-tma-64x32x32-w4-s3"

linear = taking_arguments(linear_of_values)

pytestmark = pytest.mark.skipif(not triton.knobs.runtime.interpret, reason="TRITON_INTERPRET is not set")


def grouped_arguments(
    seed: int, tokens: int, rows: int, columns: int, width: int, size: int, integers: bool = False
) -> dict[str, Any]:
    """Arguments of linear with a scale for each group of ``size`` columns; all whole numbers if ``integers``."""
    make = integer_product(seed, tokens, rows, columns) if integers else real_product(seed, tokens, rows, columns, None)
    groups = columns // size
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (rows, groups), generator=generator) * 2 - 1
    scale = torch.randint(1, 4, (rows, groups), generator=generator).float()
    if not integers:
        scale = torch.rand(rows, groups, generator=generator) * 0.01 + 0.001
    arguments = make.arguments(width, torch.float32)
    return {**arguments, "sum": reference.sum_codes(make.codes, groups), "weight_scale": scale * signs}


def exact(arguments: dict[str, Any], nonlinearity: str = "none") -> torch.Tensor:
    return taking_arguments(reference.linear)(**{**arguments, "dtype": torch.float64, "nonlinearity": nonlinearity})


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize(("tokens", "rows", "groups"), [(1, 1, 1), (5, 65, 2), (17, 64, 3), (35, 70, 3)])
def test_groups(tokens: int, rows: int, groups: int, size: int, width: int) -> None:
    whole = grouped_arguments(tokens, tokens, rows, groups * size, width, size, integers=True)
    on_ampere = str(tile_for(tokens, rows, groups * size, width, (8, 0), groups=groups))
    for kernel in ("", on_ampere):  # quarters at once, and one or two at a time
        assert torch.equal(linear(**whole, kernel_name=kernel).double(), exact(whole))
    real = grouped_arguments(tokens, tokens, rows, groups * size, width, size)
    real["bias"] = torch.randn(rows, generator=torch.Generator().manual_seed(rows))
    for dtype in (torch.float32, torch.float16):
        real["dtype"] = dtype
        value = exact(real)
        fits = value.abs() < torch.finfo(dtype).max
        assert ((linear(**real).double() - value).abs() <= linear_bound(real, "none"))[fits].all()


@pytest.mark.parametrize("width", WIDTHS)
def test_groups_are_added_in_order(width: int) -> None:
    arguments = grouped_arguments(1, 6, 40, 512, width, 64)
    total = torch.zeros(6, 40)
    codes, parts = arguments["codes"].int(), arguments["sum"]
    weights = reference.join(arguments["high"], arguments["mid"], arguments["low"], 512).int()
    for group in range(8):
        here = reference.group_of_columns(512, 8) == group
        zero = FORMATS[width].zero_point
        whole = 2 ** (8 - width) * (codes[:, here] @ weights[:, here].T) - int(zero) * parts[:, group, None]
        value = whole.float() - (zero % 1) * parts[:, group, None].float()
        total = total + value * arguments["weight_scale"][:, group]
    assert torch.equal(linear(**arguments), total * arguments["scale"][:, None])


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES[1:])
@pytest.mark.parametrize("kernel", ["", SPLIT, PERSISTENT])
def test_nonlinearities(nonlinearity: str, kernel: str) -> None:
    for width, dtype in zip(WIDTHS, (torch.float32, torch.float16, torch.float32), strict=True):
        product = real_product(width, 19, 40, 256, torch.float32)
        arguments = product.arguments(width, dtype)
        found = linear(**{**arguments, "nonlinearity": nonlinearity}, kernel_name=kernel)
        value, wanted = exact(arguments), exact(arguments, nonlinearity)
        bound = finished_bound(value, product_bound(value, product, torch.float32), nonlinearity, dtype)
        fits = wanted.abs() < torch.finfo(dtype).max
        assert ((found.double() - wanted).abs() <= bound)[fits].all()


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES[1:])
def test_nonlinearities_with_groups(nonlinearity: str) -> None:
    arguments = grouped_arguments(3, 5, 20, 256, 4, 128)
    found = linear(**{**arguments, "nonlinearity": nonlinearity})
    assert ((found.double() - exact(arguments, nonlinearity)).abs() <= linear_bound(arguments, nonlinearity)).all()


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES[1:])
def test_nonlinearities_of_large_values(nonlinearity: str) -> None:
    product = real_product(1, 2, 2, 4, None)
    product.scale[:] = torch.tensor([1e30, 0.0])
    found = linear(**{**product.arguments(8, torch.float32), "nonlinearity": nonlinearity})
    assert not found.isnan().any()
    assert (found[0] >= 0).all()
    assert (found[1] == 0).all()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("kernel", "columns"),
    [
        (SPLIT, 515),
        (SPLIT, 65),
        (SPLIT, 160),  # whole blocks that quarters do not fill
        (SPLIT, 384),  # three whole steps for four splits
        (DEEP, 515),
        (DEEP, 384),
        ("triton-deep-32x16x16-w2-s1-k2", 65),
        ("triton-32x16x32-w2-s1-k8", 700),
        (PERSISTENT, 384),
    ],  # the last but one has idle splits
)
def test_named_kernels_give_the_same_bits(kernel: str, columns: int, width: int) -> None:
    for tokens, rows in ((1, 1), (20, 65)):
        product = real_product(columns, tokens, rows, columns, torch.float16)
        for dtype in (torch.float32, torch.float16):
            found = linear(**product.arguments(width, dtype), kernel_name=kernel)
            assert torch.equal(found, product.run(width, dtype))


@pytest.mark.parametrize("kernel", ["", SPLIT, PERSISTENT])
def test_nan_reaches_its_own_token_only(kernel: str) -> None:
    product = real_product(3, 9, 70, 512, None)
    clean = linear(**{**product.arguments(6, torch.float32), "nonlinearity": "gelu"}, kernel_name=kernel)
    product.scale[4] = torch.nan
    found = linear(**{**product.arguments(6, torch.float32), "nonlinearity": "gelu"}, kernel_name=kernel)
    assert found[4].isnan().all()
    others = torch.arange(9) != 4
    assert torch.equal(found[others], clean[others])


def test_persistent_programs_take_tiles_past_a_group() -> None:
    product = real_product(7, 9 * 32 + 3, 130, 128, None)
    found = linear(**product.arguments(8, torch.float32), kernel_name=PERSISTENT)
    assert torch.equal(found, product.run(8, torch.float32))


def test_descriptors_of_a_view_that_is_not_aligned() -> None:
    product = real_product(8, 4, 20, 128, None)
    arguments = product.arguments(8, torch.float32)
    arguments["codes"] = torch.cat([torch.zeros(1, dtype=torch.int8), product.codes.flatten()])[1:].view(4, 128)
    assert torch.equal(linear(**arguments, kernel_name=PERSISTENT), product.run(8, torch.float32))


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("triton-fast", "no kernel is called"),
        ("triton-64x16x16-w4-s4", "32 columns at a time"),
        ("triton-tma-64x16x64-w4-s4", "columns must be a multiple of 256, got 128"),
    ],
)
def test_refuses_kernels(kernel: str, message: str) -> None:
    product = real_product(1, 3, 8, 128, None)
    with pytest.raises(ValueError, match=message):
        linear(**product.arguments(8, torch.float32), kernel_name=kernel)


@pytest.mark.parametrize("kernel", [SPLIT, PERSISTENT, "triton-64x16x64-w4-s4"])
def test_refuses_kernels_that_know_no_groups(kernel: str) -> None:
    with pytest.raises(ValueError, match=kernel):
        linear(**grouped_arguments(1, 3, 8, 128, 8, 128), kernel_name=kernel)

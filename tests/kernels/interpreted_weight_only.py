"""The Triton kernel of weight_only_linear in Triton's interpreter; see interpreted_linear.py."""

from typing import Any

import pytest
import torch
import triton

from tadp.kernels import BitPlaneWeight, planes, reference
from tadp.kernels.triton.tile import Tile, tile_for
from tests.kernels.bounds import weight_only_bound
from tests.kernels.cases import FLOATS, WIDTHS, random_codes, taking_arguments, tokens_with_outliers
from tests.kernels.launchers import weight_only_linear as weight_only_of_values

SPLIT = "triton-64x16x16-w4-s4-k4"
SHAPES = ((1, 1, 1), (1, 64, 256), (2, 3, 2), (5, 7, 5), (16, 65, 67), (17, 33, 260), (70, 130, 128))

weight_only_linear = taking_arguments(weight_only_of_values, "weight_only_linear")
exact = taking_arguments(reference.weight_only_linear, "weight_only_linear")

pytestmark = pytest.mark.skipif(not triton.knobs.runtime.interpret, reason="TRITON_INTERPRET is not set")


def weight_arguments(seed: int, rows: int, columns: int, width: int, size: int | None = None) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    weight = BitPlaneWeight.from_hp(torch.randn(rows, columns, generator=generator) * 0.05, size)
    high, mid, low, scale, _ = weight.planes(width)
    bias = torch.randn(rows, generator=generator)
    return {"high": high, "mid": mid, "low": low, "weight_scale": scale, "bias": bias}


def splits_of(x: torch.Tensor, rows: int, width: int, groups: int) -> int:
    tokens = x.shape[:-1].numel()
    return tile_for(tokens, rows, x.shape[-1], width, (9, 0), activations=8 * x.itemsize, groups=groups).splits


def assert_close(x: torch.Tensor, arguments: dict[str, Any], width: int, nonlinearity: str, kernel: str) -> None:
    """Within the bound; the interpreter cuts bfloat16 off where a GPU rounds, by up to twice as much."""
    found = weight_only_linear(x, **arguments, nonlinearity=nonlinearity, kernel_name=kernel)
    assert found.dtype == x.dtype
    scale = arguments["weight_scale"]
    groups = scale.shape[1] if scale.dim() == 2 else 0
    splits = Tile.parse(kernel).splits if kernel else splits_of(x, scale.shape[0], width, groups)
    wanted = exact(x, **arguments, nonlinearity=nonlinearity, dtype=torch.float64)
    bound = weight_only_bound(x, arguments, nonlinearity, splits, x.dtype)
    if x.dtype == torch.bfloat16:
        bound = bound + wanted.abs() * torch.finfo(x.dtype).eps / 2
    fits = wanted.abs() < torch.finfo(x.dtype).max
    assert ((found.double() - wanted).abs() <= bound)[fits].all()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kernel", ["", SPLIT])
def test_whole_numbers_are_exact(dtype: torch.dtype, width: int, kernel: str) -> None:
    # Every code beside every other; |sum| <= 134 * 3 * 256 < 2^17, so that float32 holds it and its halves.
    codes = torch.arange(256, dtype=torch.uint8).repeat(3, 1)
    codes[1], codes[2] = random_codes(1, 1, 256)[0], 0
    high, mid, low = (*planes.cut(codes)[: width // 2 - 1], None, None)[:3]
    x = torch.randint(-3, 4, (5, 256), generator=torch.Generator().manual_seed(2)).to(dtype)
    for scale in (torch.tensor([1.0, -2.0, 4.0]), torch.tensor([[1.0, -2.0], [4.0, 1.0], [8.0, 0.5]])):
        if scale.dim() == 2 and kernel:
            continue  # steps of 16 bytes are groups of 64
        found = weight_only_linear(x, high, mid, low, scale, None, kernel_name=kernel)
        wanted = exact(x, high, mid, low, scale, None, dtype=torch.float32)
        if dtype == torch.bfloat16:  # which the interpreter cuts
            wanted = (wanted.view(torch.int32) & ~0xFFFF).view(torch.float32)
        assert torch.equal(found, wanted.to(dtype))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("tokens", "rows", "columns"), SHAPES)
def test_within_the_bound(tokens: int, rows: int, columns: int, dtype: torch.dtype, width: int) -> None:
    x = tokens_with_outliers(tokens, (tokens, columns), dtype)
    assert_close(x, weight_arguments(rows, rows, columns, width), width, "none", "")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [64, 128])
def test_groups(size: int, width: int) -> None:
    for index, dtype in enumerate(FLOATS):
        x = tokens_with_outliers(index, (3, 256), dtype)
        arguments = weight_arguments(index, 40, 256, width, size)
        kernel = f"triton-64x16x{size // 4}-w4-s4"
        assert_close(x, arguments, width, "none", kernel)
        assert_close(x, arguments, width, "gelu", f"{kernel}-k2")


@pytest.mark.parametrize("nonlinearity", list(reference.NONLINEARITIES))
@pytest.mark.parametrize("kernel", ["", SPLIT])
def test_nonlinearities(nonlinearity: str, kernel: str) -> None:
    for width, dtype in zip(WIDTHS, FLOATS, strict=True):
        x = tokens_with_outliers(1, (3, 131), dtype)
        assert_close(x, weight_arguments(2, 40, 131, width), width, nonlinearity, kernel)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_a_broken_token_stays_alone(broken: float, dtype: torch.dtype, width: int) -> None:
    x = tokens_with_outliers(3, (9, 65), dtype)
    arguments = weight_arguments(4, 70, 65, width)
    clean = weight_only_linear(x, **arguments)
    x[4, 1] = broken
    found = weight_only_linear(x, **arguments)
    assert not found[4].isfinite().any()
    others = torch.arange(9) != 4
    assert torch.equal(found[others], clean[others])


def test_every_bit_of_a_float32_counts() -> None:
    x = torch.tensor([[1 + 2.0**-23], [1 - 2.0**-24], [3.4e38], [2.0**-100 * (1 + 2.0**-23)]])
    high, mid, low = planes.cut(torch.tensor([[135], [133], [138]], dtype=torch.uint8))  # 1, -1, 4
    found = weight_only_linear(x, high, mid, low, torch.tensor([1.0, 1.0, 0.25]), None)
    assert torch.equal(found, torch.cat([x, -x, x], 1))


@pytest.mark.parametrize("shape", [(13,), (0, 13), (2, 3, 13), (2, 0, 4, 13)])
def test_leading_dimensions(shape: tuple[int, ...]) -> None:
    x = tokens_with_outliers(6, shape)
    arguments = weight_arguments(5, 20, 13, 8)
    found = weight_only_linear(x, **arguments)
    assert found.shape == (*shape[:-1], 20)
    assert torch.equal(found.view(-1, 20), weight_only_linear(x.view(-1, 13), **arguments))


@pytest.mark.parametrize(("rows", "columns"), [(0, 8), (5, 0), (0, 0)])
def test_empty_weights(rows: int, columns: int) -> None:
    weight = BitPlaneWeight.from_hp(torch.zeros(rows, columns))
    bias = torch.arange(float(rows))
    found = weight_only_linear(torch.ones(3, columns), *weight.planes(8)[:4], bias)
    assert torch.equal(found, bias.expand(3, rows))


def test_strided_arguments() -> None:
    x, arguments = tokens_with_outliers(1, (4, 32)), weight_arguments(2, 24, 32, 8)
    spread = {name: torch.stack([tensor, tensor], -1)[..., 0] for name, tensor in {"x": x, **arguments}.items()}
    assert not any(tensor.is_contiguous() for tensor in spread.values())
    assert torch.equal(weight_only_linear(**spread), weight_only_linear(x, **arguments))

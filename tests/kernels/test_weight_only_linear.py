import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.kernels import BitPlaneWeight
from tadp.kernels.isa import cpu_isa
from tests.kernels.bounds import cpp_weight_only_exact_and_bound
from tests.kernels.cases import (
    COLUMNS,
    FLOATS,
    GROUPED,
    ISAS,
    NONLINEARITIES,
    ROWS,
    SEEDS,
    WIDTHS,
    tokens_with_outliers,
)


@pytest.mark.parametrize("isa", ISAS)
@settings(deadline=None, max_examples=80)
@given(
    SEEDS,
    st.sampled_from([1, 2, 3, 4, 5, 7, 15, 16, 17, 40]),
    ROWS,
    st.one_of(COLUMNS.map(lambda columns: (columns, None)), GROUPED),
    st.sampled_from(WIDTHS),
    st.sampled_from(FLOATS),
    st.sampled_from([None, *FLOATS]),
    st.sampled_from(NONLINEARITIES),
)
def test_within_the_rounding_bound(
    isa: str,
    seed: int,
    tokens: int,
    rows: int,
    grouped: tuple[int, int | None],
    width: int,
    dtype: torch.dtype,
    bias_dtype: torch.dtype | None,
    nonlinearity: str,
) -> None:
    columns, group_size = grouped
    x = tokens_with_outliers(seed, (tokens, columns), dtype)
    generator = torch.Generator().manual_seed(seed + 1)
    weight = BitPlaneWeight.from_hp(torch.randn(rows, columns, generator=generator) * 0.05, group_size)
    bias = None if bias_dtype is None else torch.randn(rows, generator=generator).to(bias_dtype).to(dtype)
    exact, bound = cpp_weight_only_exact_and_bound(x, weight.planes(width), bias, nonlinearity)
    with cpu_isa(isa):
        found = torch.ops.tadp.weight_only_linear(x, *weight.planes(width)[:4], bias, nonlinearity)
    assert found.dtype == dtype
    assert ((found.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", [9, 30])
def test_nan_reaches_its_own_token_only(isa: str, tokens: int) -> None:
    x = tokens_with_outliers(3, (tokens, 65))
    weight = BitPlaneWeight.from_hp(torch.randn(70, 65, generator=torch.Generator().manual_seed(1)))
    with cpu_isa(isa):
        clean = torch.ops.tadp.weight_only_linear(x, *weight.planes(8)[:4], None)
        x[4, 1] = torch.nan
        found = torch.ops.tadp.weight_only_linear(x, *weight.planes(8)[:4], None)
    assert found[4].isnan().all()
    others = torch.arange(tokens) != 4
    assert torch.equal(found[others], clean[others])


@pytest.mark.parametrize("kernel", ["", "fused", "dequantize"])
@pytest.mark.parametrize("leading", [(), (1,), (0,), (2, 3), (2, 0, 4), (1, 2, 3, 2)])
def test_leading_dimensions_and_strides(leading: tuple[int, ...], kernel: str) -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(20, 13))
    arguments = (*weight.planes(8)[:4], None, "none", kernel)
    x = torch.randn(*leading, 13)
    found = torch.ops.tadp.weight_only_linear(x, *arguments)
    assert found.shape == (*leading, 20)
    torch.testing.assert_close(
        found.reshape(-1, 20), torch.ops.tadp.weight_only_linear(x.reshape(-1, 13), *arguments), rtol=1e-5, atol=1e-5
    )
    spread = torch.stack([x, x], -1)[..., 0]
    assert torch.equal(torch.ops.tadp.weight_only_linear(spread, *arguments), found)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("rows", "columns"), [(0, 8), (5, 0), (0, 0)])
def test_empty_weights(isa: str, rows: int, columns: int) -> None:
    weight = BitPlaneWeight.from_hp(torch.zeros(rows, columns))
    bias = torch.arange(float(rows))
    with cpu_isa(isa):
        found = torch.ops.tadp.weight_only_linear(torch.randn(3, columns), *weight.planes(8)[:4], bias)
    assert torch.equal(found, bias.expand(3, rows))


def test_refuses() -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(8, 16))
    good = dict(zip(("high", "mid", "low"), weight.planes(8)[:3], strict=True))
    good |= {"x": torch.randn(3, 16), "weight_scale": weight.scale, "bias": None}
    for changes, message in (
        ({"x": torch.zeros(3, 16, dtype=torch.float64)}, "x must be float32"),
        ({"x": torch.tensor(1.0)}, "at least one dimension"),
        ({"x": torch.randn(3, 20)}, "high must have shape"),
        ({"bias": torch.zeros(3)}, r"bias must have shape \(8,\)"),
        ({"weight_scale": torch.ones(7)}, r"weight_scale must have shape \(8,\)"),
        ({"nonlinearity": "relu"}, "unknown nonlinearity 'relu'"),
        ({"kernel_name": "magic"}, "no kernel 'magic' on the CPU; there are fused and dequantize"),
        ({"x": torch.randn(17, 16), "kernel_name": "fused"}, "at most 16 tokens, got 17"),
    ):
        with pytest.raises(RuntimeError, match=message):
            torch.ops.tadp.weight_only_linear(**{**good, **changes})


@pytest.mark.parametrize("group_size", [64, 128])
def test_groups_restore_narrow_widths_better(group_size: int) -> None:
    weight = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    weight[:, 7] *= 8  # one loud column no longer widens the steps of all others
    for width in (6, 4):
        errors = [
            (BitPlaneWeight.from_hp(weight, size).dequantize(width) - weight).pow(2).mean()
            for size in (None, group_size)
        ]
        assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize(
    ("group_size", "columns", "message"),
    [
        (32, 64, "groups are of 64 or 128 columns, not of 32"),
        (64, 96, "divide a row; 64 of 96"),
        (128, 192, "divide a row; 128 of 192"),
    ],
)
def test_groups_that_do_not_fit_are_refused(group_size: int, columns: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BitPlaneWeight.from_hp(torch.randn(4, columns), group_size)


def test_opcheck() -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(10, 64), 64)
    arguments = (torch.randn(2, 3, 64), *weight.planes(6)[:4], torch.randn(10), "gelu")
    torch.library.opcheck(torch.ops.tadp.weight_only_linear.default, arguments)
    codes = torch.ops.tadp.quantize(torch.randn(2, 3, 64), 1)
    torch.library.opcheck(torch.ops.tadp.quantize.default, (torch.randn(5, 256), 2))
    torch.library.opcheck(torch.ops.tadp.linear.default, (*codes, *weight.planes(4)[:4], None, torch.bfloat16, "silu"))
    torch.library.opcheck(torch.ops.tadp.dequantize.default, (*weight.planes(4)[:4], 64, torch.bfloat16))

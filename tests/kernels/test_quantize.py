import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.kernels import reference
from tadp.kernels.isa import cpu_isa
from tests.kernels.cases import COLUMNS, FLOATS, ISAS, SEEDS, TOKENS, tokens_with_outliers


def assert_same(x: torch.Tensor) -> None:
    expected = reference.quantize(x)
    for isa in ISAS:
        with cpu_isa(isa):
            found = torch.ops.tadp.quantize(x)
        for name, left, right in zip(("codes", "scale", "sum"), found, expected, strict=True):
            torch.testing.assert_close(
                left, right, rtol=0, atol=0, equal_nan=True, msg=lambda text, n=name, i=isa: f"{n} on {i}: {text}"
            )


@settings(deadline=None, max_examples=60)
@given(SEEDS, TOKENS, COLUMNS, st.sampled_from(FLOATS))
def test_equals_the_reference_to_the_bit(seed: int, tokens: int, columns: int, dtype: torch.dtype) -> None:
    assert_same(tokens_with_outliers(seed, (tokens, columns), dtype))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=40))
def test_any_float32_row(values: list[float]) -> None:
    assert_same(torch.tensor([values]))


@settings(deadline=None, max_examples=40)
@given(SEEDS, TOKENS, COLUMNS)
def test_restores_within_half_a_step(seed: int, tokens: int, columns: int) -> None:
    x = tokens_with_outliers(seed, (tokens, columns))
    codes, scale, total = torch.ops.tadp.quantize(x)
    # 127 / amax, x * (127 / amax) and the scale itself are each rounded once: 3 * 2^-24 of at most 127 steps.
    error = (x.double() - codes.double() * scale.double()[:, None]).abs()
    assert (error <= (0.5 + 3 * 127 * 2.0**-24) * scale.double()[:, None]).all()
    assert codes.abs().max() <= 127
    assert torch.equal(total, codes.sum(-1, dtype=torch.int32))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("isa", ISAS)
def test_a_poisoned_row_poisons_only_itself(dtype: torch.dtype, poison: float, isa: str) -> None:
    x = tokens_with_outliers(1, (7, 67), dtype)
    clean = reference.quantize(x)
    x[2, 66] = poison
    with cpu_isa(isa):
        codes, scale, total = torch.ops.tadp.quantize(x)
    others = torch.arange(7) != 2
    assert scale[2].isnan()
    assert not codes[2].any()
    assert total[2] == 0
    for left, right in zip((codes, scale, total), clean, strict=True):
        assert torch.equal(left[others], right[others])


def test_zero_rows_have_scale_one() -> None:
    codes, scale, total = torch.ops.tadp.quantize(torch.zeros(3, 5))
    assert torch.equal(scale, torch.ones(3))
    assert not codes.any()
    assert not total.any()


@pytest.mark.parametrize("value", [1e-45, 1e-38, 1.4e-36, 1.6e-36, 1e-30, 1e38, 3.4e38])
def test_extreme_magnitudes(value: float) -> None:
    assert_same(torch.tensor([[value, -value / 2, 0.0, value / 3, value / 127]]))


@pytest.mark.parametrize("shape", [(0, 8), (3, 0, 8), (4, 0), (0, 0), (8,), (2, 3, 4, 8)])
def test_shapes(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    codes, scale, total = torch.ops.tadp.quantize(x)
    assert codes.shape == x.shape
    assert scale.shape == total.shape == x.shape[:-1]
    assert_same(x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_strided(dtype: torch.dtype) -> None:
    x = torch.randn(6, 40, 10).to(dtype)
    for view in (x.transpose(1, 2), x[:, ::2, ::3], x[..., 3:7], x[:1].expand(6, 40, 10), x.permute(2, 0, 1)):
        assert_same(view)


def test_refuses() -> None:
    with pytest.raises(RuntimeError, match="float32, bfloat16 or float16"):
        torch.ops.tadp.quantize(torch.zeros(2, 4, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="at least one dimension"):
        torch.ops.tadp.quantize(torch.tensor(1.0))
    with pytest.raises(RuntimeError, match="65536"):
        torch.ops.tadp.quantize(torch.zeros(1, 65537))

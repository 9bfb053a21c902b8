"""Properties of a whole layer, from floating tokens to its result: ``BitPlaneWeight.linear``, quantize then linear."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.kernels import BitPlaneWeight, reference
from tadp.kernels.isa import cpu_isa
from tests.kernels.cases import (
    COLUMNS,
    FLOATS,
    ISAS,
    ROWS,
    SEEDS,
    TOKENS,
    WIDTHS,
    Product,
    product_bound,
    tokens_with_outliers,
)

UNIT = 2.0**-24
"""float32's unit roundoff."""

LAYOUTS = ("contiguous", "offset", "strided", "transposed", "expanded")

any_width = st.sampled_from(WIDTHS)
any_float = st.sampled_from(FLOATS)
every_isa = pytest.mark.parametrize("isa", ISAS)
some_examples = settings(deadline=None, max_examples=60)


def vectors_of_all_kinds(seed: int, count: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """``(count, columns)``, where each row is, at random, of one kind.

    Normal; normal with one value of 10^4; constant; zero; below the normal range of ``dtype``, which for float32 and
    bfloat16 counts as zero and for float16 does not.
    """
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(count, columns, generator=generator)
    outlier = normal.clone()
    outlier[torch.arange(count), torch.randint(columns, (count,), generator=generator)] = 1e4
    subnormal = normal.clamp(-1, 1) * torch.finfo(dtype).tiny
    kinds = torch.stack([normal, outlier, normal[:, :1].expand_as(normal), torch.zeros_like(normal), subnormal])
    chosen = torch.randint(len(kinds), (count,), generator=generator)
    return kinds[chosen, torch.arange(count)].to(dtype)


def signal_to_noise(exact: torch.Tensor, found: torch.Tensor) -> float:
    """In dB."""
    return float(20 * torch.log10(exact.double().norm() / (exact.double() - found.double()).norm()))


def laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values in another layout; expanded, those of the first token only."""
    if layout == "offset":
        return torch.cat([x[:, :1], x], 1)[:, 1:]
    if layout == "strided":
        return torch.stack([x, x], -1)[..., 0]
    if layout == "transposed":
        return x.T.contiguous().T
    return x[:1].expand_as(x) if layout == "expanded" else x


def normal_layer(
    seed: int, rows: int, columns: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight ``(rows, columns)`` and bias ``(rows,)``."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=generator).to(dtype), torch.randn(rows, generator=generator).to(dtype)


def quantization_error(x: torch.Tensor, weight: torch.Tensor, packed: BitPlaneWeight, width: int) -> torch.Tensor:
    """Most by which x @ weight.T changes where both factors are rounded to their codes, ``(tokens, rows)``.

    Let a and w be exact values, a + d and w + e what their codes stand for. Then

        sum((a + d) (w + e)) - sum(a w) = sum(d w) + sum(a e) + sum(d e),

    at most |d| sum|w| + |e| sum|a| + columns |d| |e|, where |d| and |e| are the largest of a token and of a row:

    - |d| <= (1/2 + 3 * 127 u) s_a: half a step, and three roundings (127 / amax, its product with a, s_a) of up to 127
      steps. A token below the quantizer's smallest peak has codes of zero, so that d is the value itself.
    - |e| <= (2^(7-b) + 3 * 134 u) |s_w|: half a cell of 2^(8-b) codes. The restored value lies (2^(8-b) - 1) / 2 codes
      from the outermost code of its cell at most, which lies half a code from the weight. That holds at the ends too:
      a scale is so chosen that the outermost weight lies half a code beyond the outermost code. Two roundings (the
      quotient, s_w) move a weight of up to 134.5 steps by less than the second term, also where the code is then
      clamped. A row below float32's normal range has a scale of zero, so that e is the weight itself.
    """
    a, w = x.double().abs(), weight.double().abs()
    _, token_scale, _ = reference.quantize(x)
    row_scale = packed.scale.double().abs()
    token_peak, row_peak = a.amax(1), w.amax(1)
    d = torch.where(token_peak < reference.SMALLEST_PEAK, token_peak, (0.5 + 3 * 127 * UNIT) * token_scale.double())
    e = torch.where(row_scale == 0, row_peak, (2.0 ** (7 - width) + 3 * 134 * UNIT) * row_scale)
    return torch.outer(d, w.sum(1)) + torch.outer(a.sum(1), e) + x.shape[1] * torch.outer(d, e)


@every_isa
@some_examples
@given(SEEDS, TOKENS, ROWS, COLUMNS, any_width, any_float, st.sampled_from(LAYOUTS), st.booleans())
def test_error_against_the_floating_product_is_bounded(
    isa: str,
    seed: int,
    tokens: int,
    rows: int,
    columns: int,
    width: int,
    dtype: torch.dtype,
    layout: str,
    biased: bool,
) -> None:
    x = laid_out(vectors_of_all_kinds(seed, tokens, columns, dtype), layout)
    weight = vectors_of_all_kinds(seed + 1, rows, columns, dtype)
    bias = normal_layer(seed + 2, rows, columns)[1] if biased else None
    packed = BitPlaneWeight.from_hp(weight)
    exact = x.double() @ weight.double().T + (0 if bias is None else bias.double())
    error = quantization_error(x, weight, packed, width)
    # The bound of a product is relative to the value that is rounded, which lies up to `error` away from `exact`; the
    # factor pays for that: 2^-8 is the unit roundoff of bfloat16, and five roundings of float32 come before it.
    allowed = product_bound(exact, Product(*reference.quantize(x), packed, bias), dtype) + (1 + 2**-7) * error
    with cpu_isa(isa):
        found = packed.linear(x, bias, width)
    assert found.dtype == dtype
    fits = exact.abs() + allowed < torch.finfo(dtype).max
    assert ((found.double() - exact).abs() <= allowed)[fits].all()


@every_isa
@some_examples
@given(
    SEEDS,
    st.sampled_from([48, 49, 63, 64, 65, 97]),
    st.sampled_from([48, 63, 64, 65, 100]),
    st.sampled_from([96, 97, 128, 192, 257]),
    any_float,
)
def test_every_width_adds_signal_to_noise(
    isa: str, seed: int, tokens: int, rows: int, columns: int, dtype: torch.dtype
) -> None:
    """6 dB at least from 4 to 6 bits, and from 6 to 8 bits.

    Rounding to steps of s adds noise of power s^2 / 12. Let A be what the activations' steps add to a result and B what
    those of 8-bit weights add; two bits fewer make cells four times as wide, hence A + B, A + 16 B and A + 256 B. Peaks
    of tokens and rows have one distribution here, and a peak is 127 steps of a token but 134.5 of a row or fewer, hence
    B >= (127 / 134.5)^2 A = 0.89 A, and the noise grows by factors of at least 8.1 and 15. The result's type adds less
    than a tenth of A.

    The noise of tokens x rows results scatters by sqrt(2 / (tokens rows) + 2 / (tokens columns) + 2 / (rows columns)),
    at most 4.2 % for these sizes, a quotient of two by 6 %. To fall from 8.1 to the asserted 4, that is 6 dB, it would
    have to be off by more than ten times that.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, columns, generator=generator).to(dtype)
    weight, _ = normal_layer(seed + 1, rows, columns, dtype)
    exact, packed = x.double() @ weight.double().T, BitPlaneWeight.from_hp(weight)
    with cpu_isa(isa):
        at = {width: signal_to_noise(exact, packed.linear(x, width=width)) for width in WIDTHS}
    assert at[8] >= at[6] + 6 >= at[4] + 12


@every_isa
@some_examples
@given(SEEDS, TOKENS, ROWS, COLUMNS, any_width, any_float)
def test_powers_of_two_and_signs_pass_through(
    isa: str, seed: int, tokens: int, rows: int, columns: int, width: int, dtype: torch.dtype
) -> None:
    # A token's codes depend on x / amax only, rounding to even knows no sign, and scales multiply on without rounding
    # as long as nothing leaves the normal range. Of float32's and bfloat16's 2^-126 to 2^127, 2^60 leaves enough on
    # either side; float16 has 2^-14 to 2^15, of which inputs up to about 4000 and results leave little.
    x = tokens_with_outliers(seed, (tokens, columns), dtype)
    lowest, highest = (0, 3) if dtype == torch.float16 else (-60, 60)
    generator = torch.Generator().manual_seed(seed)
    exponents = torch.randint(lowest, highest + 1, (tokens, 1), generator=generator)
    signs = torch.randint(0, 2, (tokens, 1), generator=generator) * 2.0 - 1
    factors = signs * 2.0**exponents
    packed = BitPlaneWeight.from_hp(normal_layer(seed + 1, rows, columns)[0])
    scaled_x = x * factors.to(dtype)
    assert torch.equal(scaled_x.double(), x.double() * factors)
    with cpu_isa(isa):
        plain, scaled = packed.linear(x, width=width), packed.linear(scaled_x, width=width)
    expected = plain.double() * factors
    if dtype == torch.float16:
        info = torch.finfo(dtype)
        normal = (plain.abs() > info.tiny) & (expected.abs() > info.tiny) & (expected.abs() <= info.max)
        expected, scaled = expected[normal], scaled[normal]
    assert torch.equal(scaled.double(), expected)


@every_isa
@some_examples
@given(SEEDS, TOKENS, ROWS, COLUMNS, any_width, st.floats(2**-10, 2**10, width=32))
def test_any_factor_passes_through_but_for_ties(
    isa: str, seed: int, tokens: int, rows: int, columns: int, width: int, factor: float
) -> None:
    """Scaling x by c scales the result by c, but where rounding is a matter of the last bit.

    Let t = 127 x / amax, exactly. The quantizer rounds t (1 + 2u) to a code: 127 / amax and its product with x each
    round once. For c x, both c x and c amax have rounded before: t (1 + 4u). So both codes are round(t), unless t lies
    within 4u * 127 of a half; then they may differ by one. Their scales, amax / 127, differ by c (1 + 3u). Hence the
    results differ, beyond what each may be off by, by c s_a sum(|w|) over such columns and 3u of the result.
    """
    x = tokens_with_outliers(seed, (tokens, columns))
    packed = BitPlaneWeight.from_hp(normal_layer(seed + 1, rows, columns)[0])
    restored = reference.dequantize(packed.planes(width), columns, torch.float64)
    steps = 127 * x.double() / x.double().abs().amax(1, keepdim=True).clamp(min=reference.SMALLEST_PEAK)
    at_tie = ((steps.abs() % 1 - 0.5).abs() <= 1.01 * 4 * UNIT * 127).double()
    plain, scaled = (Product(*reference.quantize(value), packed, None) for value in (x, x * factor))
    with cpu_isa(isa):
        found, of_scaled = packed.linear(x, width=width).double(), packed.linear(x * factor, width=width).double()
    ties = plain.scale.double()[:, None] * (at_tie @ restored.abs().T)
    allowed = factor * (1.01 * ties + 3.03 * UNIT * found.abs() + product_bound(found, plain, torch.float32))
    allowed += product_bound(of_scaled, scaled, torch.float32)
    assert ((of_scaled - factor * found).abs() <= allowed).all()


@every_isa
@some_examples
@given(SEEDS, TOKENS, TOKENS, ROWS, COLUMNS, any_width, any_float)
def test_a_result_depends_on_its_own_token_only(
    isa: str, seed: int, tokens: int, chosen: int, rows: int, columns: int, width: int, dtype: torch.dtype
) -> None:
    # Any choice of tokens, in any order, with repetitions: also across the number of tokens where schemes change.
    x = tokens_with_outliers(seed, (tokens, columns), dtype)
    weight, bias = normal_layer(seed + 1, rows, columns, dtype)
    packed = BitPlaneWeight.from_hp(weight)
    index = torch.randint(tokens, (chosen,), generator=torch.Generator().manual_seed(seed))
    with cpu_isa(isa):
        assert torch.equal(packed.linear(x[index], bias, width), packed.linear(x, bias, width)[index])


@every_isa
@some_examples
@given(SEEDS, TOKENS, ROWS, ROWS, COLUMNS, any_width, any_float)
def test_a_result_depends_on_its_own_weight_row_only(
    isa: str, seed: int, tokens: int, rows: int, chosen: int, columns: int, width: int, dtype: torch.dtype
) -> None:
    x = tokens_with_outliers(seed, (tokens, columns), dtype)
    weight, bias = normal_layer(seed + 1, rows, columns, dtype)
    index = torch.randint(rows, (chosen,), generator=torch.Generator().manual_seed(seed))
    with cpu_isa(isa):
        found = BitPlaneWeight.from_hp(weight[index]).linear(x, bias[index], width)
        expected = BitPlaneWeight.from_hp(weight).linear(x, bias, width)[:, index]
    assert torch.equal(found, expected)


@every_isa
@some_examples
@given(SEEDS, TOKENS, ROWS, COLUMNS, any_width, any_float)
def test_the_order_of_columns_does_not_matter(
    isa: str, seed: int, tokens: int, rows: int, columns: int, width: int, dtype: torch.dtype
) -> None:
    # Exactly: sums of codes are integers.
    x = tokens_with_outliers(seed, (tokens, columns), dtype)
    weight, bias = normal_layer(seed + 1, rows, columns, dtype)
    order = torch.randperm(columns, generator=torch.Generator().manual_seed(seed))
    with cpu_isa(isa):
        found = BitPlaneWeight.from_hp(weight[:, order]).linear(x[:, order], bias, width)
        expected = BitPlaneWeight.from_hp(weight).linear(x, bias, width)
    assert torch.equal(found, expected)


@every_isa
@some_examples
@given(SEEDS, TOKENS, ROWS, COLUMNS, any_width, any_float, st.sampled_from([torch.nan, torch.inf, -torch.inf]))
def test_nan_and_infinity_reach_their_own_token_only(
    isa: str, seed: int, tokens: int, rows: int, columns: int, width: int, dtype: torch.dtype, poison: float
) -> None:
    x = tokens_with_outliers(seed, (tokens, columns), dtype)
    weight, bias = normal_layer(seed + 1, rows, columns, dtype)
    weight[0] = 0
    packed = BitPlaneWeight.from_hp(weight)
    generator = torch.Generator().manual_seed(seed)
    poisoned = torch.rand(tokens, generator=generator) < 0.3
    with cpu_isa(isa):
        clean = packed.linear(x, bias, width)
        x[poisoned, torch.randint(columns, (1,), generator=generator)] = poison
        found = packed.linear(x, bias, width)
    assert found[poisoned].isnan().all()
    assert torch.equal(found[~poisoned], clean[~poisoned])

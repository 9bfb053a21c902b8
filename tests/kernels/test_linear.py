import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.kernels import BitPlaneWeight, planes, reference
from tadp.kernels.isa import NAMES, cpu_isa
from tests.kernels.cases import (
    COLUMNS,
    FLOATS,
    GROUPED,
    ISAS,
    NONLINEARITIES,
    ROWS,
    SEEDS,
    TOKENS,
    WIDTHS,
    Product,
    integer_product,
    needs_vector_isas,
    padded_with_codes,
    product_bound,
    random_widths,
    real_product,
    taking_arguments,
)


@pytest.mark.parametrize("isa", ISAS)
@settings(deadline=None, max_examples=60)
@given(SEEDS, TOKENS, ROWS, COLUMNS, st.sampled_from(WIDTHS))
def test_integer_sums_are_exact(isa: str, seed: int, tokens: int, rows: int, columns: int, width: int) -> None:
    # |sum| <= 134 * 127 * 257 < 2^23, so that float32 holds it and its halves.
    product = integer_product(seed, tokens, rows, columns)
    with cpu_isa(isa):
        found = product.run(width, torch.float32)
    assert torch.equal(found.double(), product.run(width, torch.float64, reference.linear))


@pytest.mark.parametrize("isa", ISAS)
@settings(deadline=None, max_examples=60)
@given(SEEDS, TOKENS, ROWS, COLUMNS, st.sampled_from(WIDTHS), st.sampled_from(FLOATS), st.sampled_from((None, *FLOATS)))
def test_within_the_rounding_bound(
    isa: str,
    seed: int,
    tokens: int,
    rows: int,
    columns: int,
    width: int,
    dtype: torch.dtype,
    bias_dtype: torch.dtype | None,
) -> None:
    product = real_product(seed, tokens, rows, columns, bias_dtype)
    exact = product.run(width, torch.float64, reference.linear)
    with cpu_isa(isa):
        found = product.run(width, dtype)
    assert found.dtype == dtype
    fits = exact.abs() < torch.finfo(dtype).max
    error = (found.double() - exact).abs()
    assert (error <= product_bound(exact, product, dtype))[fits].all()


@pytest.mark.parametrize("isa", ISAS)
@settings(deadline=None, max_examples=60)
@given(SEEDS, TOKENS, ROWS, GROUPED, st.sampled_from(WIDTHS), st.sampled_from(FLOATS), st.sampled_from(NONLINEARITIES))
def test_groups_and_nonlinearities_stay_within_the_rounding_bound(
    isa: str,
    seed: int,
    tokens: int,
    rows: int,
    grouped: tuple[int, int | None],
    width: int,
    dtype: torch.dtype,
    nonlinearity: str,
) -> None:
    columns, group_size = grouped
    product = real_product(seed, tokens, rows, columns, torch.float32, group_size, nonlinearity)
    exact, bound = product.exact_and_bound(width, dtype)
    with cpu_isa(isa):
        found = product.run(width, dtype)
    fits = exact.abs() < torch.finfo(dtype).max
    assert ((found.double() - exact).abs() <= bound)[fits].all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", WIDTHS)
def test_what_pads_planes_does_not_count(isa: str, width: int) -> None:
    for tokens, columns in ((1, 5), (7, 97), (50, 62)):
        product = integer_product(columns, tokens, 9, columns)
        with cpu_isa(isa):
            found = padded_with_codes(product).run(width, torch.float32)
            assert torch.equal(found, product.run(width, torch.float32))


@needs_vector_isas
@settings(deadline=None, max_examples=60)
@given(
    SEEDS,
    TOKENS,
    ROWS,
    st.one_of(COLUMNS.map(lambda columns: (columns, None)), GROUPED),
    st.sampled_from(WIDTHS),
    st.sampled_from(FLOATS),
    st.booleans(),
    st.sampled_from(NONLINEARITIES),
)
def test_instruction_sets_agree_with_portable_to_the_bit(
    seed: int,
    tokens: int,
    rows: int,
    grouped: tuple[int, int | None],
    width: int,
    dtype: torch.dtype,
    biased: bool,
    nonlinearity: str,
) -> None:
    columns, group_size = grouped
    product = real_product(seed, tokens, rows, columns, torch.float32 if biased else None, group_size, nonlinearity)
    product.scale[0] = torch.nan
    results = {}
    for isa in ISAS:
        with cpu_isa(isa):
            results[isa] = product.run(width, dtype)
    for isa, found in results.items():
        torch.testing.assert_close(
            found, results["portable"], rtol=0, atol=0, equal_nan=True, msg=lambda text, i=isa: f"{i}: {text}"
        )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", WIDTHS)
def test_longest_row_is_exact(isa: str, width: int) -> None:
    # The largest sums there are. As all products of a row are equal, they are a small number times 2^16, or times 2^15
    # for the half of z_6 and z_4, which float32 holds: nothing is rounded after the sum either.
    columns = 65536
    cut = planes.cut(torch.full((2, columns), 255, dtype=torch.uint8))
    cut[0][1], cut[1][1], cut[2][1] = 0, 0, 0
    weight = BitPlaneWeight(*cut, torch.ones(2), columns, torch.float32)
    codes = torch.full((2, columns), 127, dtype=torch.int8)
    codes[1] = -127
    product = Product(codes, torch.ones(2), codes.sum(-1, dtype=torch.int32), weight, None)
    with cpu_isa(isa):
        found = product.run(width, torch.float32)
    assert torch.equal(found.double(), product.run(width, torch.float64, reference.linear))


def mixed_product(product: Product, widths: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Each row at its own width, put together from products that read all rows at one."""
    whole = {width: product.run(width, dtype) for width in WIDTHS}
    return torch.stack([whole[width][..., row] for row, width in enumerate(widths.tolist())], -1)


@pytest.mark.parametrize("isa", ISAS)
@settings(deadline=None, max_examples=60)
@given(
    SEEDS,
    TOKENS,
    ROWS,
    st.one_of(COLUMNS, st.sampled_from([1500, 2100])),  # AVX-512 unpacks rows from 2,048 columns on in another way
    st.sampled_from(FLOATS),
    st.booleans(),
    st.sampled_from(NONLINEARITIES),
)
def test_rows_of_own_widths_give_the_bits_of_single_widths(
    isa: str,
    seed: int,
    tokens: int,
    rows: int,
    columns: int,
    dtype: torch.dtype,
    biased: bool,
    nonlinearity: str,
) -> None:
    product = real_product(seed, tokens, rows, columns, dtype if biased else None, nonlinearity=nonlinearity)
    product.scale[0] = torch.nan
    widths = random_widths(seed, rows)
    with cpu_isa(isa):
        found = torch.ops.tadp.linear(**product.arguments(8, dtype), widths=widths)
        expected = mixed_product(product, widths, dtype)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("tokens", [3, 50])
def test_one_width_for_all_rows_and_for_all_but_one(isa: str, width: int, tokens: int) -> None:
    product = real_product(2, tokens, 70, 132, torch.float32)
    widths = torch.full((70,), width, dtype=torch.uint8)
    with cpu_isa(isa):
        expected = product.run(width, torch.float32)
        found = torch.ops.tadp.linear(**product.arguments(8, torch.float32), widths=widths)
        widths[69] = 4 if width == 8 else 8
        others = torch.ops.tadp.linear(**product.arguments(8, torch.float32), widths=widths)
    assert torch.equal(found, expected)
    assert torch.equal(others[:, :69], expected[:, :69])
    assert not torch.equal(others[:, 69], expected[:, 69])


@pytest.mark.parametrize("isa", ISAS)
@settings(deadline=None, max_examples=60)
@given(SEEDS, TOKENS, ROWS, COLUMNS, st.sampled_from(FLOATS))
def test_rows_of_own_widths_stay_within_the_rounding_bound(
    isa: str, seed: int, tokens: int, rows: int, columns: int, dtype: torch.dtype
) -> None:
    product = real_product(seed, tokens, rows, columns, torch.float32)
    widths = random_widths(seed, rows)
    exact = product.run(8, torch.float64, reference.linear, widths)
    with cpu_isa(isa):
        found = product.run(8, dtype, widths=widths)
    fits = exact.abs() < torch.finfo(dtype).max
    assert ((found.double() - exact).abs() <= product_bound(exact, product, dtype))[fits].all()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("tokens", [3, 50])
def test_sums_of_no_columns_are_zero(isa: str, width: int, tokens: int) -> None:
    cut = planes.cut(torch.zeros(70, 0, dtype=torch.uint8))
    weight = BitPlaneWeight(*cut, torch.ones(70), 0, torch.float32)
    codes, zeros = torch.zeros(tokens, 0, dtype=torch.int8), torch.zeros(tokens, dtype=torch.int32)
    with cpu_isa(isa):
        found = Product(codes, torch.ones(tokens), zeros, weight, None).run(width, torch.float32)
    assert torch.equal(found, torch.zeros(tokens, 70))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("tokens", [16, 17, 55])
def test_largest_codes_do_not_saturate(isa: str, width: int, tokens: int) -> None:
    # Sums of 16 bits have no room to spare at them. The columns are more than any kernel multiplies at a time, and of
    # the tokens and rows that a tile takes, some are left over.
    columns = 4096 + 64
    cut = planes.cut(torch.full((19, columns), 255, dtype=torch.uint8))
    weight = BitPlaneWeight(*cut, torch.ones(19), columns, torch.float32)
    codes = torch.full((tokens, columns), -128, dtype=torch.int8)
    codes[1::2] = 127
    product = Product(codes, torch.ones(tokens), codes.sum(-1, dtype=torch.int32), weight, None)
    with cpu_isa(isa):
        found = product.run(width, torch.float32)
    assert torch.equal(found.double(), product.run(width, torch.float64, reference.linear))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", [5, 49])
def test_longest_row_of_own_width_is_exact(isa: str, tokens: int) -> None:
    # As above, where codes of 4 and 6 bits stand in the frame of 8.
    columns = 65536
    cut = planes.cut(torch.full((3, columns), 255, dtype=torch.uint8))
    weight = BitPlaneWeight(*cut, torch.ones(3), columns, torch.float32)
    codes = torch.full((tokens, columns), 127, dtype=torch.int8)
    codes[1::2] = -127
    product = Product(codes, torch.ones(tokens), codes.sum(-1, dtype=torch.int32), weight, None)
    widths = torch.tensor([8, 6, 4], dtype=torch.uint8)
    with cpu_isa(isa):
        found = product.run(8, torch.float32, widths=widths)
    assert torch.equal(found.double(), product.run(8, torch.float64, reference.linear, widths))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("tokens", [5, 49])
@pytest.mark.parametrize("columns", [97, 1536, 2100])
def test_rows_do_not_read_planes_beyond_their_width(isa: str, tokens: int, columns: int) -> None:
    product = real_product(3, tokens, 70, columns, None)
    widths = random_widths(4, 70)
    with cpu_isa(isa):
        before = product.run(8, torch.float32, widths=widths)
        generator = torch.Generator().manual_seed(5)
        for plane, narrower in ((product.weight.low, widths < 8), (product.weight.mid, widths < 6)):
            noise = torch.randint(0, 256, plane.shape, generator=generator, dtype=torch.uint8)
            plane[narrower] = noise[narrower]
        assert torch.equal(product.run(8, torch.float32, widths=widths), before)
        product.weight.low[widths == 8] ^= 255
        assert not torch.equal(product.run(8, torch.float32, widths=widths), before)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("leading", "rows", "columns"), [((0,), 9, 12), ((2, 3), 9, 12), ((3,), 0, 8), ((3,), 5, 0)])
def test_rows_of_own_widths_in_odd_shapes(isa: str, leading: tuple[int, ...], rows: int, columns: int) -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(rows, columns))
    quantized = torch.ops.tadp.quantize(torch.randn(*leading, columns))
    arguments = (*quantized, *weight.planes(8)[:4], None, torch.float32)
    widths = random_widths(6, rows)
    spread = torch.stack([widths, torch.zeros_like(widths)], -1)[:, 0]
    with cpu_isa(isa):
        found = torch.ops.tadp.linear(*arguments, widths=spread)
    assert found.shape == (*leading, rows)
    exact = taking_arguments(reference.linear)(*arguments, widths=widths)
    torch.testing.assert_close(found, exact)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("nonlinearity", ["gelu", "gelu_tanh", "silu"])
def test_infinity_and_large_values_pass_nonlinearities(isa: str, nonlinearity: str) -> None:
    weight = BitPlaneWeight.from_hp(torch.zeros(4, 8))
    bias = torch.tensor([torch.inf, 1e30, -1e30, 50.0])
    with cpu_isa(isa):
        quantized = torch.ops.tadp.quantize(torch.zeros(1, 8))
        found = torch.ops.tadp.linear(*quantized, *weight.planes(8)[:4], bias, torch.float32, nonlinearity)
    assert found[0, [0, 1, 3]].tolist() == [torch.inf, bias[1].item(), 50.0]
    assert abs(found[0, 2]) <= 30 * 2.0**-24 * 1e30


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("leading", [(), (1,), (0,), (2, 3), (2, 0, 4), (1, 2, 3, 4)])
def test_leading_dimensions(isa: str, leading: tuple[int, ...]) -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(20, 13))
    x = torch.randn(*leading, 13)
    with cpu_isa(isa):
        found = weight.linear(x)
        flat = weight.linear(x.reshape(-1, 13))
    assert found.shape == (*leading, 20)
    assert torch.equal(found.reshape(-1, 20), flat)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("rows", "columns"), [(0, 8), (5, 0), (0, 0)])
def test_empty_weights(isa: str, rows: int, columns: int) -> None:
    weight = BitPlaneWeight.from_hp(torch.zeros(rows, columns))
    bias = torch.arange(float(rows))
    with cpu_isa(isa):
        found = weight.linear(torch.randn(3, columns), bias)
    assert torch.equal(found, bias.expand(3, rows))


@pytest.mark.parametrize("isa", ISAS)
def test_strided_arguments(isa: str) -> None:
    product = real_product(5, 12, 24, 32, torch.float32)
    with cpu_isa(isa):
        expected = product.run(8, torch.float32)
        spread = [
            torch.stack([tensor, tensor], -1)[..., 0]
            for tensor in (product.codes, product.scale, product.sum, *product.weight.planes(8)[:3])
        ]
        scale = torch.stack([product.weight.scale] * 2, -1)[:, 0]
        bias = torch.stack([product.bias] * 2, -1)[:, 0]
        assert not spread[0].is_contiguous()
        found = torch.ops.tadp.linear(*spread, scale, bias, torch.float32)
    assert torch.equal(found, expected)


def test_refuses() -> None:
    product = real_product(1, 3, 8, 16, torch.float32)
    good = product.arguments(8, torch.float32)
    high, mid, low = good["high"], good["mid"], good["low"]
    long = torch.zeros(1, 65540, dtype=torch.int8)
    widths = torch.full((8,), 8, dtype=torch.uint8)
    for changes, message in (
        ({"codes": product.codes.int()}, "codes must be Char"),
        ({"codes": torch.tensor(1, dtype=torch.int8)}, "at least one dimension"),
        ({"scale": product.scale[:2]}, "scale must have the shape of codes"),
        ({"sum": product.sum.long()}, "sum must be Int"),
        ({"high": high.int()}, "high must be Byte"),
        ({"high": high[:, 1:]}, r"high must have shape \(8, 8\)"),
        ({"mid": mid[1:]}, r"mid must have shape \(8, 4\)"),
        ({"mid": None}, "low plane needs the mid plane"),
        ({"low": low[:, :2]}, r"low must have shape \(8, 4\)"),
        ({"weight_scale": product.weight.scale[1:]}, r"weight_scale must have shape \(8,\) or \(8, groups\)"),
        ({"bias": torch.zeros(3)}, r"bias must have shape \(8,\)"),
        ({"bias": torch.zeros(8, dtype=torch.int32)}, "bias must be float32"),
        ({"dtype": torch.float64}, "dtype must be float32"),
        ({"nonlinearity": "tanh"}, "unknown nonlinearity 'tanh'; there are none, gelu, gelu_tanh and silu"),
        ({"kernel_name": "fast"}, "linear has no kernel 'fast' on the CPU; there is int8"),
        ({"weight_scale": torch.ones(8, 3)}, "16 columns in 3 groups; groups are of 64 or 128"),
        ({"weight_scale": torch.ones(8, 0)}, "weight_scale has no groups"),
        ({"widths": widths[:7]}, r"widths must have shape \(8,\)"),
        ({"widths": widths[None]}, r"widths must have shape \(8,\)"),
        ({"widths": widths.int()}, "widths must be Byte"),
        ({"widths": widths, "low": None}, "widths of single rows need all three planes"),
        ({"widths": widths, "low": None, "mid": None}, "widths of single rows need all three planes"),
        ({"widths": widths.index_fill(0, torch.tensor(3), 7)}, "widths of rows must be 8, 6 or 4"),
        ({"widths": widths.new_full((8,), 255)}, "widths of rows must be 8, 6 or 4"),
        ({"codes": long, "scale": torch.ones(1), "sum": torch.ones(1, dtype=torch.int32)}, "at most 65536"),
    ):
        with pytest.raises(RuntimeError, match=message):
            torch.ops.tadp.linear(**{**good, **changes})


def test_widths_of_rows_refuse_groups() -> None:
    product = real_product(1, 3, 8, 128, None, group_size=64)
    widths = random_widths(1, 8)
    with pytest.raises(RuntimeError, match="widths of single rows need one scale a row, not groups"):
        torch.ops.tadp.linear(**product.arguments(8, torch.float32), widths=widths)


def test_unknown_instruction_set_is_refused() -> None:
    with pytest.raises(RuntimeError, match="'sse9'; valid are portable, avx2, avxvnni and avx512vnni"), cpu_isa("sse9"):
        pass
    assert torch.ops.tadp.cpu_isa() in NAMES


@pytest.mark.parametrize("isa", NAMES)
def test_an_instruction_set_is_forced_or_refused(isa: str) -> None:
    before = torch.ops.tadp.cpu_isa()
    if isa in ISAS:
        with cpu_isa("portable"):
            with cpu_isa(isa):
                assert torch.ops.tadp.cpu_isa() == isa
            assert torch.ops.tadp.cpu_isa() == "portable"
    else:
        with pytest.raises(RuntimeError, match=f"asks for {isa}, which this processor does not have"), cpu_isa(isa):
            pass
    assert torch.ops.tadp.cpu_isa() == before


def asked_in_a_process(wish: str | None) -> subprocess.CompletedProcess[str]:
    """The instruction set of a process, asked twice, with another wish in between."""
    environment = {name: value for name, value in os.environ.items() if name != "TADP_CPU_ISA"}
    program = (
        "import os, torch, tadp.kernels\n"
        "print(torch.ops.tadp.cpu_isa())\n"
        "os.environ['TADP_CPU_ISA'] = 'sse9'\n"
        "print(torch.ops.tadp.cpu_isa())"
    )
    environment |= {} if wish is None else {"TADP_CPU_ISA": wish}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.spawns
@pytest.mark.parametrize(("wish", "answer"), [(None, ISAS[-1]), ("portable", "portable")])
def test_the_environment_is_read_once(wish: str | None, answer: str) -> None:
    assert asked_in_a_process(wish).stdout.split() == [answer, answer]


@pytest.mark.spawns
def test_an_unknown_wish_of_the_environment_is_refused() -> None:
    assert "TADP_CPU_ISA is 'sse9'; valid are" in asked_in_a_process("sse9").stderr

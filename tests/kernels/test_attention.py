"""8-bit attention of csrc/cpu against the exact one, and what must hold of it whatever it is given."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.kernels.isa import cpu_isa
from tests.kernels.attention_cases import BLOCK, DIMS, KEYS, MASKS, PART, QUERIES, Attention, bound, case
from tests.kernels.cases import FLOATS, ISAS, SEEDS, needs_vector_isas

every_isa = pytest.mark.parametrize("isa", ISAS)
some_examples = settings(deadline=None, max_examples=20)


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


@every_isa
@some_examples
@given(SEEDS, QUERIES, KEYS, DIMS, st.sampled_from(FLOATS), MASKS)
def test_results_are_within_the_derived_bound(
    isa: str, seed: int, queries: int, keys: int, dim: int, dtype: torch.dtype, mask: str
) -> None:
    attention = case(seed, 1, 2, queries, keys, dim, dtype, mask)
    with cpu_isa(isa):
        found = attention.run()
    assert found.dtype == dtype
    assert ((found.double() - attention.exact()).abs() <= bound(attention)).all()


@needs_vector_isas
@some_examples
@given(SEEDS, QUERIES, KEYS, DIMS, st.sampled_from(FLOATS), MASKS)
def test_all_instruction_sets_agree_to_the_bit(
    seed: int, queries: int, keys: int, dim: int, dtype: torch.dtype, mask: str
) -> None:
    attention = case(seed, 2, 1, queries, keys, dim, dtype, mask)
    results = []
    for isa in ISAS:
        with cpu_isa(isa):
            results.append(attention.run())
    assert all(torch.equal(result, results[0]) for result in results[1:])


@every_isa
@some_examples
@given(SEEDS, st.sampled_from([64, 128]), KEYS)
def test_normal_values_are_within_two_and_a_half_percent(isa: str, seed: int, dim: int, keys: int) -> None:
    """Of gaussian q, k and v: scores are off by about 0.9 % of their deviation, values by 0.8 % of theirs.

    Rounding to steps of s has deviation s / sqrt(12), an amount that error feedback raises by sqrt(2) at most. A row of
    128 gaussian values peaks near 2.7 deviations, so a step is 2.7 / 127 and a score, a sum of dim products of unit
    variance over sqrt(dim), is off by sqrt(2) * 2.7 / 127 / sqrt(12) = 0.009. Weights change in proportion, results by
    as much of their spread. Values peak at 3 of 192 keys: sqrt(2) * 3 / 126 / sqrt(12) = 0.010; weights, mostly a tenth
    to a half of 255 codes, are off by sqrt(1 / 6) of a code each: 0.003 to 0.016 of their size. All of it together is
    0.021, a fifth more allows for the scatter of peaks.
    """
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(1, 2, count, dim, generator=generator) for count in (128, keys, keys))
    attention = Attention(q, k, v)
    with cpu_isa(isa):
        assert relative_error(attention.run(), attention.exact()) < 0.025


@every_isa
@pytest.mark.parametrize("size", [1e-30, 1e-6, 1e3, 1e15])
def test_huge_and_tiny_scores(isa: str, size: float) -> None:
    attention = case(0, 1, 2, 65, 300, 64)
    attention = replace(attention, q=attention.q * size)
    with cpu_isa(isa):
        found = attention.run()
    assert found.isfinite().all()
    assert ((found.double() - attention.exact()).abs() <= bound(attention)).all()
    if size < 1:  # all weights are equal, and error feedback makes their mean exact but for what is left at the end
        assert relative_error(found, attention.exact()) < 1e-3


@every_isa
def test_one_outlier_channel_in_k_does_not_hurt(isa: str) -> None:
    """A constant added to a channel of all keys moves the scores of a query alike: taken out, it costs nothing."""
    plain = case(0, 1, 2, 130, 500, 64)
    outlier = plain.k.clone()
    outlier[..., 7] += 200.0
    shifted = replace(plain, k=outlier)
    with cpu_isa(isa):
        before, after = relative_error(plain.run(), plain.exact()), relative_error(shifted.run(), shifted.exact())
    assert after < 1.1 * before
    # Without the mean taken out a step of k would be 200 / 127, as large as the other channels' values.
    assert before < 0.02


@every_isa
@some_examples
@given(SEEDS, KEYS, st.sampled_from(["none", "boolean", "additive"]))
def test_the_order_of_keys_does_not_matter(isa: str, seed: int, keys: int, mask: str) -> None:
    attention = case(seed, 1, 2, 65, keys, 40, mask=mask)
    order = torch.randperm(keys, generator=torch.Generator().manual_seed(seed))
    permuted = replace(
        attention,
        k=attention.k[..., order, :],
        v=attention.v[..., order, :],
        mask=None if attention.mask is None else attention.mask[..., order],
    )
    with cpu_isa(isa):
        difference = (attention.run().double() - permuted.run().double()).abs()
    assert (difference <= bound(attention) + bound(permuted)).all()


@every_isa
@some_examples
@given(SEEDS, MASKS)
def test_samples_and_heads_are_independent(isa: str, seed: int, mask: str) -> None:
    attention = case(seed, 2, 3, 67, 251, 48, torch.bfloat16, mask)
    with cpu_isa(isa):
        together = attention.run()
        for batch in range(2):
            for head in range(3):
                alone = attention.of(batch, head).run()
                assert torch.equal(together[batch, head], alone[0, 0])


@every_isa
def test_a_query_that_sees_no_key_gives_zeros(isa: str) -> None:
    attention = case(0, 2, 2, 70, 300, 64)
    hidden = torch.ones(1, 1, 70, 300, dtype=torch.bool)
    hidden[:, :, 5] = False
    for mask in (hidden, torch.zeros(hidden.shape).masked_fill(~hidden, -torch.inf)):
        with cpu_isa(isa):
            found = replace(attention, mask=mask).run()
        assert (found[:, :, 5] == 0).all()
        assert found.isfinite().all()
    with cpu_isa(isa):
        assert (replace(attention, mask=torch.zeros(300, dtype=torch.bool)).run() == 0).all()


@every_isa
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_lowest_number_everywhere_hides_nothing(isa: str, dtype: torch.dtype) -> None:
    """Beside such a number no score counts, and all keys weigh the same, as in float32."""
    attention = case(0, 1, 2, 70, 300, 64)
    lowest = torch.full((70, 300), torch.finfo(dtype).min, dtype=dtype)
    with cpu_isa(isa):
        found = replace(attention, mask=lowest).run()
    even = attention.v.double().mean(-2, keepdim=True)
    # Half a code of the largest value, and of weights that are all one.
    assert ((found - even).abs() <= 2.0**-7 * attention.v.abs().max()).all()


@every_isa
def test_one_key_gives_its_value(isa: str) -> None:
    attention = case(0, 1, 2, 70, 1, 64)
    with cpu_isa(isa):
        assert torch.equal(attention.run(), attention.v.expand(-1, -1, 70, -1))


@every_isa
def test_equal_values_pass_through(isa: str) -> None:
    """Weights add up to one whatever is lost in rounding them."""
    attention = case(0, 1, 2, 70, 300, 64)
    value = attention.v[:, :, :1]
    attention = replace(attention, v=value.expand(-1, -1, 300, -1))
    with cpu_isa(isa):
        found = attention.run()
    assert ((found - value).abs() <= 300 * 2**-23 * value.abs()).all()  # the mean of 300 numbers in float32


@every_isa
def test_what_rounding_values_loses_is_not_lost(isa: str) -> None:
    """Values of 0.4 codes would all round to none; the mean over both blocks is zero, so that they stay as they are."""
    attention = case(0, 1, 1, 70, 2 * BLOCK, 64)
    code = 1 / 126
    v = torch.full(attention.v.shape, 0.4 * code)
    v[:, :, 0] = 1.0  # which gives the block its scale
    v[:, :, BLOCK:] = -v[:, :, :BLOCK]
    seen = torch.arange(2 * BLOCK) < BLOCK
    with cpu_isa(isa):
        found = replace(attention, k=torch.zeros_like(attention.k), v=v, mask=seen).run()
    assert ((found - v[0, 0, :BLOCK, 0].mean()).abs() <= 2 * code / BLOCK).all()


@every_isa
def test_equal_keys_share_their_weight(isa: str) -> None:
    """Of 200 equal keys each has 3 of 255 codes: rounded alike, they would be off by up to a sixth together."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 1, count, 64, generator=generator) for count in (64, 40, 40))
    many = (
        torch.cat([k, k[..., :1, :].expand(-1, -1, 200, -1)], 2),
        torch.cat([v, v[..., :1, :].expand(-1, -1, 200, -1)], 2),
    )
    padded = Attention(3 * q, *many)
    with cpu_isa(isa):
        assert relative_error(padded.run(), padded.exact()) < 0.02


@every_isa
def test_not_a_number_stays_where_it_was(isa: str) -> None:
    attention = case(0, 2, 2, 70, 300, 64)
    q, k, v = attention.q.clone(), attention.k.clone(), attention.v.clone()
    q[0, 0, 3, 5] = torch.nan
    k[1, 0, 7, 5] = torch.inf
    v[1, 1, 9, 5] = torch.nan
    with cpu_isa(isa):
        found = Attention(q, k, v).run()
    expected = torch.zeros(found.shape, dtype=torch.bool)
    expected[0, 0, 3] = expected[1, 0] = True
    expected[1, 1, :, 5] = True
    assert torch.equal(found.isnan(), expected)


def test_any_layout_is_read_and_heads_lie_side_by_side() -> None:
    attention = case(0, 2, 3, 65, 70, 64, torch.bfloat16, "boolean")
    expected = attention.run()
    assert expected.transpose(1, 2).is_contiguous()
    for layout in (
        lambda x: x.contiguous(),
        lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
        lambda x: torch.stack([x, x], -1)[..., 0],
        lambda x: torch.cat([x, x], 2)[:, :, : x.shape[2]],
    ):
        q, k, v = (layout(x) for x in (attention.q, attention.k, attention.v))
        assert torch.equal(replace(attention, q=q, k=k, v=v).run(), expected)
    assert attention.mask is not None
    strided = attention.mask.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(replace(attention, mask=strided).run(), expected)


def test_scale_may_be_any_number() -> None:
    for scale in (0.0, -0.3, 0.01, 5.0):
        attention = replace(case(0, 1, 2, 65, 300, 64), scale=scale)
        assert ((attention.run().double() - attention.exact()).abs() <= bound(attention)).all()


def test_nothing_in_nothing_out() -> None:
    assert case(0, 2, 2, 0, 5, 64).run().shape == (2, 2, 0, 64)
    assert case(0, 0, 2, 5, 5, 64).run().shape == (0, 2, 5, 64)


@pytest.mark.parametrize("mask", [None, "boolean", "additive"])
def test_opcheck(mask: str | None) -> None:
    attention = case(0, 1, 2, 17, 20, 32, torch.bfloat16, mask or "none")
    torch.library.opcheck(
        torch.ops.tadp.attention.default,
        (attention.q, attention.k, attention.v, attention.mask),
        {"scale": 0.2, "level": 8},
    )


def _changed(**changes: object) -> Attention:
    return replace(case(0, 1, 2, 8, 9, 64), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("attention", "message"),
    [
        (
            _changed(q=torch.zeros(1, 2, 8, 20), k=torch.zeros(1, 2, 9, 20), v=torch.zeros(1, 2, 9, 20)),
            "dimension of 20",
        ),
        (_changed(k=torch.zeros(1, 3, 9, 64)), "(does not fit|one shape)"),
        (_changed(k=torch.zeros(1, 2, 0, 64), v=torch.zeros(1, 2, 0, 64)), "keys"),
        (_changed(q=torch.zeros(2, 8, 64)), "four dimensions"),
        (_changed(v=torch.zeros(1, 2, 9, 64, dtype=torch.bfloat16)), "(one type|must be Float)"),
        (_changed(mask=torch.zeros(7, 9)), "broadcast"),
        (_changed(mask=torch.zeros(1, 9, dtype=torch.int32)), "boolean or floating"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_wrong_arguments_are_refused(attention: Attention, message: str, device: str) -> None:
    on_device = {
        name: tensor.to(device) for name, tensor in vars(attention).items() if isinstance(tensor, torch.Tensor)
    }
    with pytest.raises(RuntimeError, match=f"tadp: .*{message}"):
        replace(attention, **on_device).run()


def test_other_levels_and_kernels_are_refused() -> None:
    attention = case(0, 1, 1, 4, 4, 64)
    with pytest.raises(RuntimeError, match="for 8 bits, not for 4"):
        torch.ops.tadp.attention(attention.q, attention.k, attention.v, level=4)
    with pytest.raises(RuntimeError, match="no kernel 'fast' on the CPU"):
        torch.ops.tadp.attention(attention.q, attention.k, attention.v, kernel_name="fast")


def test_blocks_are_as_large_as_the_tests_take_them_for() -> None:
    source = Path(__file__).parents[2] / "csrc" / "cpu" / "attention_kernels.h"
    assert f"kBlockKeys = {BLOCK};" in source.read_text()
    assert f"kPartKeys = {PART};" in source.read_text()

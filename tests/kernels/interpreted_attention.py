"""Attention in Triton's interpreter; see interpreted_linear.py."""

import math
from typing import Any

import pytest
import torch
import triton

from tadp.doctor.triton_attention_bounds import attention_bound
from tadp.kernels import reference
from tadp.kernels.triton.attention_quantize import quantize_tokens, quantize_values
from tadp.kernels.triton.attention_tile import OPERANDS
from tests.kernels.launchers import attention, attention_name

SHAPES = (  # batch, heads, queries, keys, dim: one, primes, one more and one less than tiles of 64 and 128
    (1, 1, 1, 1, 32),
    (1, 2, 1, 131, 64),
    (2, 1, 5, 7, 40),
    (1, 1, 64, 128, 64),
    (1, 1, 65, 129, 80),
    (1, 2, 130, 67, 96),
    (2, 1, 67, 257, 128),
    (1, 1, 33, 127, 256),
)
SMALL = {operands: f"triton-{operands}-16x32-w1-s2" for operands in OPERANDS}
"""Tiles so small that a few tokens take several steps."""

TYPES = (torch.float16, torch.float32, torch.bfloat16)

pytestmark = pytest.mark.skipif(not triton.knobs.runtime.interpret, reason="TRITON_INTERPRET is not set")


def tokens(
    seed: int, batch: int, heads: int, queries: int, keys: int, dim: int, dtype: torch.dtype = torch.float16
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Views as a model passes them: of (batch, tokens, heads, dim). Keys and values have a mean that is not zero."""
    generator = torch.Generator().manual_seed(seed)
    made = (
        torch.randn(batch, count, heads, dim, generator=generator).mul(size).add(offset).to(dtype).transpose(1, 2)
        for count, size, offset in ((queries, 1.0, 0.0), (keys, 1.5, 2.0), (keys, 2.0, -1.0))
    )
    return next(made), next(made), next(made)


def assert_close(
    found: torch.Tensor,
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    *,
    operands: str,
) -> None:
    """Within the bound; the interpreter cuts bfloat16 off where a GPU rounds, by up to twice as much."""
    exact = reference.attention(q, k, v, mask, scale, dtype=torch.float64)
    bound = attention_bound(q, k, v, mask, scale, operands=operands)
    if q.dtype == torch.bfloat16:
        bound = bound + exact.abs() * torch.finfo(q.dtype).eps / 2
    assert found.dtype == q.dtype
    assert found.shape == q.shape
    assert found.transpose(1, 2).is_contiguous()
    error = (found.double() - exact).abs()
    assert (error <= bound).all(), (error / bound).max()


@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(shape: tuple[int, int, int, int, int], operands: str) -> None:
    q, k, v = tokens(sum(shape), *shape, TYPES[sum(shape) % 3])
    assert_close(attention(q, k, v, kernel_name=attention_name(operands, q)), q, k, v, operands=operands)


@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize("dtype", TYPES)
def test_types_and_many_steps(dtype: torch.dtype, operands: str) -> None:
    q, k, v = tokens(1, 1, 2, 35, 101, 32, dtype)
    assert_close(attention(q, k, v, kernel_name=SMALL[operands]), q, k, v, operands=operands)


@pytest.mark.parametrize("operands", OPERANDS)
def test_errors_are_far_below_the_bound(operands: str) -> None:
    # Errors of codes are independent of each other, those of the bound all have the worst sign.
    q, k, v = tokens(2, 1, 1, 64, 256, 64)
    exact = reference.attention(q, k, v, dtype=torch.float64)
    found = attention(q, k, v, kernel_name=attention_name(operands, q)).double()
    allowed = attention_bound(q, k, v, operands=operands)
    assert (found - exact).norm() <= 0.25 * allowed.norm()


def masks(queries: int, keys: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    drawn = torch.rand(2, 2, queries, keys, generator=generator)
    drawn[..., 0] = 1.0  # which every query sees
    added = torch.randn(2, 2, queries, keys, generator=generator)
    return {
        "boolean": drawn > 0.4,
        "causal": torch.ones(queries, keys, dtype=torch.bool).tril(),
        "keys of a sample": (drawn > 0.4)[:, :1, :1],
        "keys alone": (drawn > 0.4)[0, 0, 0],
        "queries alone": torch.ones(1, 1, queries, 1, dtype=torch.bool),
        "added": added,
        "added in bfloat16": added.bfloat16(),
        "added, some infinite": added.masked_fill(drawn < 0.4, -torch.inf).half(),
        "added, some lowest": torch.zeros(1, 2, queries, keys).masked_fill(
            drawn[:1] < 0.4, torch.finfo(torch.float32).min
        ),
        "added by head": added[:1, :, :1, :1],
        "later blocks only": torch.arange(keys).expand(queries, keys) >= keys - 1 - torch.arange(queries)[:, None] % 9,
    }


@pytest.mark.parametrize("name", masks(1, 1))
def test_masks(name: str) -> None:
    for index, (operands, dtype) in enumerate(zip(OPERANDS, TYPES, strict=True)):
        q, k, v = tokens(4 + index, 2, 2, 19, 45, 32, dtype)
        mask = masks(19, 45)[name]
        found = attention(q, k, v, mask, kernel_name=SMALL[operands])
        assert_close(found, q, k, v, mask, operands=operands)


@pytest.mark.parametrize("operands", OPERANDS)
def test_a_query_that_sees_nothing_gives_zeros(operands: str) -> None:
    q, k, v = tokens(7, 1, 2, 18, 37, 32)
    seen = torch.rand(1, 2, 18, 37, generator=torch.Generator().manual_seed(8)) > 0.5
    seen[..., 0] = True
    seen[0, 0, 3] = seen[0, 1, 17] = False
    for mask in (seen, torch.zeros(seen.shape).masked_fill(~seen, -torch.inf)):
        found = attention(q, k, v, mask, kernel_name=SMALL[operands])
        assert (found[0, 0, 3] == 0).all()
        assert (found[0, 1, 17] == 0).all()
        assert_close(found, q, k, v, mask, operands=operands)
    assert (attention(q, k, v, seen.new_zeros(1, 1), kernel_name=SMALL[operands]) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_lowest_number_everywhere_hides_nothing(dtype: torch.dtype) -> None:
    q, k, v = tokens(9, 1, 1, 3, 20, 32, torch.float32)
    mask = torch.full((3, 20), torch.finfo(dtype).min, dtype=dtype)
    found = attention(q, k, v, mask, kernel_name=SMALL["int8_float16"])
    # As in float32 and in the reference: beside such a number no score counts, and all keys weigh the same.
    assert torch.allclose(found, v.mean(-2, keepdim=True).expand_as(found), rtol=0, atol=2.0**-8 * v.abs().max().item())


@pytest.mark.parametrize("operands", OPERANDS)
def test_an_outlying_channel_of_keys_costs_nothing(operands: str) -> None:
    q, k, v = tokens(10, 1, 1, 20, 50, 64, torch.float32)
    plain = attention(q, k, v, kernel_name=SMALL[operands])
    shifted = k.clone()
    shifted[..., 5] += 64.0  # exact for most, so that what is left without the mean is nearly the same
    found = attention(q, shifted, v, kernel_name=SMALL[operands])
    assert_close(found, q, shifted, v, operands=operands)
    exact = reference.attention(q, k, v, dtype=torch.float64)
    assert (found - exact).norm() <= 1.1 * (plain - exact).norm()


@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize("size", [1e-30, 1e-4, 30.0, 3e4])
def test_tiny_and_huge_scores(size: float, operands: str) -> None:
    q, k, v = tokens(11, 1, 1, 17, 40, 32, torch.float32)
    found = attention(q * size, k * size, v, kernel_name=SMALL[operands])
    assert found.isfinite().all()
    assert_close(found, q * size, k * size, v, operands=operands)
    if size < 1:
        even = v.double().mean(-2, keepdim=True)
        assert ((found.double() - even).abs() <= attention_bound(q * 0, k, v, operands=operands) + 1e-6).all()


@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize("size", [1e-30, 0.0, 1e20])
def test_tiny_and_huge_values(size: float, operands: str) -> None:
    q, k, v = tokens(12, 1, 1, 17, 40, 32, torch.float32)
    assert_close(attention(q, k, v * size, kernel_name=SMALL[operands]), q, k, v * size, operands=operands)


@pytest.mark.parametrize("operands", OPERANDS)
def test_zeros_and_equal_keys(operands: str) -> None:
    q, k, v = tokens(13, 1, 1, 17, 40, 32)
    for some_q, some_k, some_v in ((q * 0, k, v), (q, k * 0, v), (q, k[:, :, :1].expand_as(k), v), (q, k, v * 0 + 3)):
        found = attention(some_q, some_k, some_v, kernel_name=SMALL[operands])
        assert_close(found, some_q, some_k, some_v, operands=operands)


@pytest.mark.parametrize("operands", OPERANDS)
def test_many_small_weights_beside_a_large_one_count(operands: str) -> None:
    # 256 of 2^-11 have a ninth of the whole; in e4m3 they are numbers only if the large one is near its end. As many
    # keys that weigh nothing keep the mean of the values at zero.
    q, k, v = torch.zeros(1, 1, 2, 32), torch.zeros(1, 1, 512, 32), torch.ones(1, 1, 512, 32)
    q[..., 0], k[..., 5, 0], k[..., 256:, 0] = 11 * math.log(2.0), 1.0, -2.0
    v[..., 256:, :], v[..., 5, :] = -1.0, -1.0
    found = attention(q, k, v, None, 1.0, kernel_name=SMALL[operands])
    exact = reference.attention(q, k, v, None, 1.0, dtype=torch.float64)
    # Weights and values round to within 2^-4, of which the large weight and all values have no need.
    assert ((found - exact).abs() <= 2.0**-4 * (1 + exact)).all()


@pytest.mark.parametrize("scale", [0.5, -0.2, 0.0, 1e-3])
def test_scales(scale: float) -> None:
    q, k, v = tokens(14, 1, 1, 17, 40, 32)
    mask = torch.rand(17, 40, generator=torch.Generator().manual_seed(15)) > 0.3
    for operands in OPERANDS:
        found = attention(q, k, v, mask, scale, kernel_name=SMALL[operands])
        assert_close(found, q, k, v, mask, scale, operands=operands)


@pytest.mark.parametrize("operands", OPERANDS)
def test_samples_and_heads_are_independent(operands: str) -> None:
    q, k, v = tokens(16, 2, 3, 20, 45, 32)
    together = attention(q, k, v, kernel_name=SMALL[operands])
    for batch in range(2):
        for head in range(3):
            one = [tensor[batch : batch + 1, head : head + 1] for tensor in (q, k, v)]
            alone = attention(*one, kernel_name=SMALL[operands])
            assert torch.equal(alone[0, 0], together[batch, head])


@pytest.mark.parametrize("operands", OPERANDS)
def test_strides(operands: str) -> None:
    made = tokens(17, 2, 2, 18, 33, 40)
    expected = attention(*made, kernel_name=SMALL[operands])
    layouts: dict[str, Any] = {
        "contiguous": lambda x: x.contiguous(),
        "dim outermost": lambda x: x.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0),
        "every other": lambda x: torch.stack([x, x], -1)[..., 0],
        "part of a larger tensor": lambda x: torch.cat([x, x], 3)[..., 40:],
    }
    for layout in layouts.values():
        assert torch.equal(attention(*map(layout, made), kernel_name=SMALL[operands]), expected)
    mask = torch.randn(2, 2, 18, 33)
    expected = attention(*made, mask, kernel_name=SMALL[operands])
    assert torch.equal(attention(*made, layouts["dim outermost"](mask), kernel_name=SMALL[operands]), expected)


@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_reaches_its_rows_only(broken: float, operands: str) -> None:
    q, k, v = tokens(18, 1, 2, 18, 40, 32)
    mask = torch.ones(18, 40, dtype=torch.bool)
    mask[:9, 4] = False
    clean = attention(q, k, v, mask, kernel_name=SMALL[operands])

    spoiled = q.clone()
    spoiled[0, 0, 3, 5] = broken
    found = attention(spoiled, k, v, mask, kernel_name=SMALL[operands])
    assert found[0, 0, 3].isnan().all()
    found[0, 0, 3] = clean[0, 0, 3]
    assert torch.equal(found, clean)

    spoiled = k.clone()
    spoiled[0, 0, 4, 5] = broken
    found = attention(q, spoiled, v, mask, kernel_name=SMALL[operands])
    assert found[0, 0, 9:].isnan().all()
    assert found[0, 0, :9].isfinite().all()
    assert torch.equal(found[0, 1], clean[0, 1])

    spoiled = v.clone()
    spoiled[0, 0, 4, 5] = broken
    found = attention(q, k, spoiled, mask, kernel_name=SMALL[operands])
    assert found[0, 0, :, 5].isfinite().logical_not()[9:].all()
    rest = torch.arange(32) != 5
    assert torch.equal(found[0, 0][:, rest], clean[0, 0][:, rest])
    assert torch.equal(found[0, 1], clean[0, 1])


def test_a_hidden_query_gives_zeros_even_if_it_is_nan() -> None:
    q, k, v = tokens(19, 1, 1, 4, 40, 32)
    q[0, 0, 1] = torch.nan
    mask = torch.ones(4, 40, dtype=torch.bool)
    mask[1] = False
    assert (attention(q, k, v, mask)[0, 0, 1] == 0).all()


@pytest.mark.parametrize("shape", [(0, 2, 3, 4, 32), (1, 0, 3, 4, 32), (1, 2, 0, 4, 32)])
def test_nothing_to_do(shape: tuple[int, int, int, int, int]) -> None:
    q, k, v = tokens(0, *shape)
    assert attention(q, k, v).shape == q.shape


def test_names() -> None:
    q, k, v = tokens(20, 1, 1, 3, 4, 32)
    rule = attention(q, k, v)
    assert torch.equal(rule, attention(q, k, v, kernel_name=attention_name("int8_float8", q)))
    assert torch.equal(rule, attention(q, k, v, None, 32**-0.5))
    with pytest.raises(ValueError, match="no kernel of attention"):
        attention(q, k, v, kernel_name="triton-128x128x32-w8-s3")


def test_codes_of_tokens() -> None:
    q, k, _ = tokens(21, 2, 1, 70, 33, 40, torch.float32)
    codes, scale = quantize_tokens(q, torch.int8, 64, 0.5, centered=False)
    assert codes.shape == (2, 128, 64)
    assert (codes[:, 70:] == 0).all()
    assert (codes[:, :, 40:] == 0).all()
    assert codes.abs().amax() == 127
    peak = q[:, 0].abs().amax(-1)
    assert torch.allclose(scale[:, :70], 0.5 * peak / 127, rtol=2.0**-21)
    restored = codes[:, :70, :40] * scale[:, :70, None]
    assert ((restored - 0.5 * q[:, 0]).abs() <= 0.5 * (0.501 * peak / 127)[..., None]).all()
    turned = quantize_tokens(q, torch.int8, 64, -0.5, centered=False)
    assert torch.equal(turned.codes, -codes)
    assert torch.equal(turned.scale, scale)

    codes, scale = quantize_tokens(k, torch.int8, 32, 1.0, centered=True)
    assert ((scale.view(torch.int32) & 3) == 0).all()
    centered = k[:, 0].double() - k[:, 0].double().mean(-2, keepdim=True)
    error = codes[:, :33, :40] * scale[:, :33, None].double() - centered
    assert (error.abs() <= 0.501 * centered.abs().amax(-1, keepdim=True) / 127).all()


def test_codes_of_values() -> None:
    _, _, v = tokens(22, 1, 2, 1, 70, 40, torch.float32)
    codes, scale, mean = quantize_values(v, 64)
    assert codes.shape == (2, 64, 128)
    assert torch.allclose(mean[:, :40], v[0].mean(-2), atol=1e-5)
    place = torch.arange(128)
    key = place // 16 * 16 + place // 2 % 2 * 8 + place // 4 % 4 * 2 + place % 2
    assert torch.equal(key.sort().values, place)
    ordered = torch.empty(2, 64, 128)
    ordered[..., key] = codes.float()
    assert (ordered[:, 40:] == 0).all()
    assert (ordered[..., 70:] == 0).all()
    centered = (v[0] - v[0].mean(-2, keepdim=True)).mT
    assert torch.allclose(scale[:, :40], centered.abs().amax(-1) / 448, rtol=1e-5)
    shifted = quantize_values(v + 100.0, 64)  # all positive, so that a zero among them would be the least
    assert torch.allclose(shifted.scale, scale, rtol=1e-4)
    # As torch rounds to this type; a difference of the means' last bits may tip a value to the other side.
    same = (centered / scale[:, :40, None]).clamp(-448, 448).to(torch.float8_e4m3fn).float() == ordered[:, :40, :70]
    assert same.float().mean() > 0.99


def test_codes_of_many_tokens() -> None:
    """More than 64 blocks of tokens: a program then takes the sums of several."""
    _, k, v = tokens(23, 1, 1, 1, 64 * 64 + 70, 32, torch.float32)
    k[..., 64 * 40 :, :] += 3.0  # sums of some of the blocks would give another mean
    v[..., 64 * 40 :, :] += 3.0
    codes, scale = quantize_tokens(k, torch.int8, 32, 1.0, centered=True)
    centered = k[:, 0].double() - k[:, 0].double().mean(-2, keepdim=True)
    error = codes[:, : k.shape[2]] * scale[:, : k.shape[2], None].double() - centered
    assert (error.abs() <= 0.501 * centered.abs().amax(-1, keepdim=True) / 127 + 1e-5).all()
    values = quantize_values(v, 64)
    assert torch.allclose(values.mean, v[0].mean(-2), atol=1e-4)
    assert torch.allclose(values.scale, (v[0] - v[0].mean(-2, keepdim=True)).abs().amax(-2) / 448, rtol=1e-4)

import math

import pytest
import torch

from tadp.runtime.signals import activation_moments, attention_entropy, read, relative_change


def test_entropy_of_uniform_attention_is_one() -> None:
    query, key = torch.randn(2, 3, 100, 8), torch.zeros(2, 3, 77, 8)
    torch.testing.assert_close(attention_entropy(query, key), torch.ones(2, 1))


def test_entropy_of_one_hot_attention_is_zero() -> None:
    query = key = torch.eye(64)[None, None] * 100
    assert attention_entropy(query, key).item() == pytest.approx(0, abs=1e-6)


def test_sampled_entropy_is_near_the_exact_one() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 4, 1280, 64, generator=generator) for _ in range(2))
    exact = attention_entropy(query, key, samples=1280).item()
    # 64 of 1280 rows and 4 heads: the mean of 256 values that spread by less than 0.05 is off by 0.05 / 16 at one sigma
    assert attention_entropy(query, key).item() == pytest.approx(exact, rel=0.02)


def test_masked_keys_do_not_count() -> None:
    query, key = torch.randn(1, 2, 70, 8), torch.zeros(1, 2, 50, 8)
    mask = torch.zeros(1, 1, 1, 50, dtype=torch.bool)
    mask[..., :10] = True
    assert attention_entropy(query, key, mask).item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("hidden", [float("-inf"), -10000.0])
def test_additive_masks_count_like_boolean_ones(hidden: float) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 2, 70, 8, generator=generator), torch.randn(2, 2, 50, 8, generator=generator)
    seen = torch.rand(2, 1, 70, 50, generator=generator) > 0.5
    additive = torch.zeros(seen.shape).masked_fill(~seen, hidden)
    torch.testing.assert_close(attention_entropy(query, key, additive), attention_entropy(query, key, seen))


def test_queries_that_see_nothing_are_left_out() -> None:
    query, key = torch.randn(1, 2, 64, 8), torch.zeros(1, 2, 50, 8)
    mask = torch.ones(1, 1, 64, 50, dtype=torch.bool)
    mask[:, :, 32:] = False
    assert attention_entropy(query, key, mask).item() == pytest.approx(1.0, abs=1e-5)


def test_shared_heads_and_another_scale() -> None:
    query, key = torch.randn(1, 4, 64, 8), torch.randn(1, 2, 50, 8)
    assert 0 < attention_entropy(query, key).item() < 1
    assert attention_entropy(query, key, scale=0.0).item() == pytest.approx(1.0, abs=1e-6)


def test_moments_of_known_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(1, 200, 1000, generator=generator)
    exponential = torch.empty(1, 200, 1000).exponential_(generator=generator)
    kurtosis, skewness = activation_moments(torch.cat([gaussian, exponential])).t()
    # standard errors of kurtosis and skewness of n gaussian values: sqrt(24 / n) = 0.011 and sqrt(6 / n) = 0.0055
    assert kurtosis[0].item() == pytest.approx(3, abs=0.05)
    assert skewness[0].item() == pytest.approx(0, abs=0.025)
    assert kurtosis[1].item() == pytest.approx(9, rel=0.1)
    assert skewness[1].item() == pytest.approx(2, rel=0.05)


def test_moments_of_constants_are_finite() -> None:
    assert activation_moments(torch.full((1, 5, 5), 3.0)).isfinite().all()


def test_relative_change_is_per_sample() -> None:
    before = torch.ones(2, 3, 4)
    after = before.clone()
    after[1] *= 3
    torch.testing.assert_close(relative_change(before, after), torch.tensor([[0.0], [2.0]]))


def test_readings_become_signals_per_sample() -> None:
    rows = [
        ("attention", "blocks.0.attn1", torch.tensor([[0.5], [0.7]])),
        ("attention", "blocks.0.attn2", torch.tensor([[0.1], [0.1]])),
        ("activation", "blocks.0.ffn", torch.tensor([[3.0, 0.1], [4.0, 0.2]])),
        ("change", "", torch.tensor([[0.25], [math.nan]])),
    ]
    block = read("blocks.0", rows)
    assert block.entropy == pytest.approx((0.5, 0.7))
    assert block.kurtosis["blocks.0.ffn"] == pytest.approx((3.0, 4.0))
    assert block.skewness["blocks.0.ffn"] == pytest.approx((0.1, 0.2))
    assert block.relative_change[0] == 0.25

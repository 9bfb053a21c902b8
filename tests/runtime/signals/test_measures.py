import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel

from tadp.demo import PIPELINE_DIR
from tadp.kernels import reference
from tadp.runtime.signals import (
    activation_moments,
    attention_entropy,
    block_map_entropy,
    measures,
    quantization_error,
    relative_change,
)
from tadp.runtime.signals.measures import WIDTHS, stride

ALL = 1 << 30
"""More samples than there are tokens: nothing is left out."""


def test_entropy_of_uniform_attention_is_one() -> None:
    query, key = torch.randn(2, 3, 100, 8), torch.zeros(2, 3, 77, 8)
    torch.testing.assert_close(attention_entropy(query, key), torch.tensor([[1.0, 0.0]] * 2))


def test_entropy_of_one_hot_attention_is_zero() -> None:
    query = key = torch.eye(64)[None, None] * 100
    assert attention_entropy(query, key)[0, 0].item() == pytest.approx(0, abs=1e-6)


def test_entropy_is_the_one_of_the_attention_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, 3, 50, 16, generator=generator) * 3 for _ in range(2))
    weights = torch.softmax(query.double() @ key.double().transpose(-1, -2) / 4, dim=-1)
    exact = torch.special.entr(weights).sum(-1).mean((1, 2)) / math.log(50)
    # float32 scores are off by some 1e-6 of their size of about 50
    torch.testing.assert_close(attention_entropy(query, key)[:, 0].double(), exact, rtol=1e-4, atol=1e-5)


def test_sampled_entropy_is_near_the_exact_one() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 4, 1280, 64, generator=generator) for _ in range(2))
    exact, no_error = attention_entropy(query, key, samples=ALL)[0].tolist()
    sampled, error = attention_entropy(query, key)[0].tolist()
    # 61 of 1280 rows and 4 heads: the mean of 244 values that spread by less than 0.05 is off by 0.05 / 15 at one sigma
    assert sampled == pytest.approx(exact, rel=0.02)
    assert no_error == 0
    assert 0 < error < 0.05 / 15


@pytest.mark.generates
def test_sampled_entropy_of_the_embedded_model_is_near_the_exact_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[float, float, float]] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def measured(query: torch.Tensor, key: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        if query.shape == key.shape:
            exact, _ = attention_entropy(query, key, samples=ALL)[0].tolist()
            seen.append((exact, *attention_entropy(query, key)[0].tolist()))
        return attend(query, key, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", measured)
    model = WanTransformer3DModel.from_pretrained(PIPELINE_DIR / "transformer", torch_dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model(
            hidden_states=torch.randn(1, 8, 5, 16, 16, generator=generator),
            timestep=torch.tensor([900.0]),
            encoder_hidden_states=torch.randn(1, 64, 128, generator=generator),
        )
    assert len(seen) == 8
    for exact, sampled, error in seen:
        assert sampled == pytest.approx(exact, rel=0.02)
        assert abs(sampled - exact) < 4 * error


def test_the_standard_error_is_that_of_repeated_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    key = torch.randn(1, 2, 64, 16, generator=generator)
    sharpness = torch.rand(1, 1, 2048, 1, generator=generator) * 4  # of a query, in all heads alike
    query = torch.randn(1, 2, 2048, 16, generator=generator) * sharpness
    found = [attention_entropy(query[:, :, torch.randperm(2048, generator=generator)], key)[0] for _ in range(200)]
    means, errors = torch.stack(found).t()
    # the standard deviation of 200 values is known to 5 %, each estimate from 61 queries to 10 %: three sigma
    assert errors.mean().item() == pytest.approx(means.std().item(), rel=0.17)


def test_sampled_tokens_visit_every_column_of_a_picture() -> None:
    for width, height, frames in ((16, 16, 5), (52, 30, 21), (32, 18, 3)):
        positions = range(0, width * height * frames, stride(width * height * frames, 256))
        assert {position % width for position in positions} == set(range(width))
    assert stride(40, 64) == stride(64, 64) == stride(1, 64) == 1


@pytest.mark.parametrize(
    "measure", [lambda x: attention_entropy(x, x), activation_moments, quantization_error, block_map_entropy]
)
def test_samples_of_a_batch_do_not_touch_each_other(measure: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = torch.randn(3, 2, 300, 16, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.1]).reshape(
        3, 1, 1, 1
    )
    x = x.relu() if measure is block_map_entropy else x
    together = measure(x)
    alone = torch.cat([measure(x[index : index + 1]) for index in range(3)])
    torch.testing.assert_close(together, alone)
    broken = x.clone()
    broken[1] = math.nan
    torch.testing.assert_close(measure(broken)[[0, 2]], alone[[0, 2]])


def test_attention_without_heads_is_one_head() -> None:
    query = torch.randn(2, 70, 8)
    torch.testing.assert_close(attention_entropy(query, query), attention_entropy(query[:, None], query[:, None]))


def test_masked_keys_do_not_count() -> None:
    query, key = torch.randn(1, 2, 70, 8), torch.zeros(1, 2, 50, 8)
    mask = torch.zeros(1, 1, 1, 50, dtype=torch.bool)
    mask[..., :10] = True
    assert attention_entropy(query, key, mask)[0, 0].item() == pytest.approx(1.0, abs=1e-5)


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
    assert attention_entropy(query, key, mask)[0, 0].item() == pytest.approx(1.0, abs=1e-5)


def test_shared_heads_and_another_scale() -> None:
    query, key = torch.randn(1, 4, 64, 8), torch.randn(1, 2, 50, 8)
    assert 0 < attention_entropy(query, key)[0, 0].item() < 1
    assert attention_entropy(query, key, scale=0.0)[0, 0].item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("masked", [None, "bool", "additive"])
@pytest.mark.parametrize("key_heads", [6, 2])
def test_many_heads_are_measured_a_few_at_a_time(
    masked: str | None, key_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 6, 70, 8, generator=generator), torch.randn(2, key_heads, 50, 8, generator=generator)
    seen = torch.rand(2, 6, 70, 50, generator=generator) > 0.5
    mask = {None: None, "bool": seen, "additive": torch.zeros(seen.shape).masked_fill(~seen, -math.inf)}[masked]
    whole, heads = attention_entropy(query, key, mask), []
    of_heads = measures._entropy_of_heads

    def noted(query: torch.Tensor, key: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
        heads.append(key.shape[1])
        return of_heads(query, key, *rest)

    monkeypatch.setattr(measures, "_entropy_of_heads", noted)
    monkeypatch.setattr(measures, "KEY_ELEMENTS", 4 * 2 * 50 * 8 + 1)  # room for four heads
    torch.testing.assert_close(attention_entropy(query, key, mask), whole)
    assert heads == [4, 2]
    monkeypatch.setattr(measures, "KEY_ELEMENTS", 1)
    torch.testing.assert_close(attention_entropy(query, key, mask), whole)
    assert heads[2:] == [1] * 6


def test_entropy_of_a_block_map() -> None:
    block_map = torch.zeros(2, 1, 4, 16, dtype=torch.int8)
    block_map[0, 0, :, 0] = 1  # one block each
    block_map[1, 0, 0] = 1  # all of them
    block_map[1, 0, 1, :4] = 1  # 4 of 16: half of the largest entropy; the other two rows keep nothing
    torch.testing.assert_close(block_map_entropy(block_map), torch.tensor([[0.0], [0.75]]))
    torch.testing.assert_close(block_map_entropy(block_map.bool()), block_map_entropy(block_map))


def _exact_moments(values: torch.Tensor) -> torch.Tensor:
    centered = values.double().flatten(1)
    centered = centered - centered.mean(1, keepdim=True)
    variance = centered.square().mean(1)
    return torch.stack([centered.pow(4).mean(1) / variance.square(), centered.pow(3).mean(1) / variance.pow(1.5)], 1)


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_moments_are_those_of_float64(offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.empty(2, 3, 40, 50).exponential_(generator=generator) * torch.rand(50, generator=generator) + offset
    values[:, 1, 20:] += 2  # tokens of different means
    # values around 100 are known to 4e-6, next to a standard deviation near 1; fourth powers take that four times
    torch.testing.assert_close(activation_moments(values, ALL).double(), _exact_moments(values), rtol=1e-4, atol=1e-4)


def test_moments_of_known_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    gaussian = torch.randn(1, 200, 1000, generator=generator)
    exponential = torch.empty(1, 200, 1000).exponential_(generator=generator)
    kurtosis, skewness = activation_moments(torch.cat([gaussian, exponential]), ALL).t()
    # standard errors of kurtosis and skewness of n gaussian values: sqrt(24 / n) = 0.011 and sqrt(6 / n) = 0.0055
    assert kurtosis[0].item() == pytest.approx(3, abs=0.05)
    assert skewness[0].item() == pytest.approx(0, abs=0.025)
    assert kurtosis[1].item() == pytest.approx(9, rel=0.1)
    assert skewness[1].item() == pytest.approx(2, rel=0.05)


def test_moments_of_constants_are_finite() -> None:
    assert activation_moments(torch.full((1, 5, 5), 3.0)).isfinite().all()


def _exact_error(values: torch.Tensor, largest: int) -> float:
    wide = values.double()
    scale = wide.abs().amax(-1, keepdim=True) / largest
    return ((wide / scale).round() * scale - wide).norm().item() / wide.norm().item()


def test_quantization_errors_are_those_of_rounding() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 30, 64, generator=generator) * torch.rand(2, 30, 1, generator=generator).exp()
    found = quantization_error(values)
    assert found.shape == (2, len(WIDTHS))
    for sample in range(2):
        codes, scale, _ = reference.quantize(values[sample])
        restored = codes.double() * scale.double()[:, None]
        exact = (restored - values[sample].double()).norm() / values[sample].double().norm()
        # codes near 127 are known to 127 * 2^-24 of a step in float32, errors are a quarter of a step
        assert found[sample, 0].item() == pytest.approx(exact.item(), rel=1e-4)
        for width, column in zip(WIDTHS, found[sample].tolist(), strict=True):
            assert column == pytest.approx(_exact_error(values[sample], 2 ** (width - 1) - 1), rel=1e-4)


def test_quantization_errors_of_zeros_and_of_one_token() -> None:
    assert quantization_error(torch.zeros(2, 3, 4)).tolist() == [[0.0] * 3] * 2
    row = torch.tensor([[1.0, 0.5]])  # 0.5 lies halfway between two codes at each width
    codes = [0.5 * (2 ** (width - 1) - 1) for width in WIDTHS]
    exact = [abs(code - round(code)) / (2 * code) / math.sqrt(1.25) for code in codes]
    assert quantization_error(row)[0].tolist() == pytest.approx(exact, rel=1e-5)


def test_relative_change_is_per_sample() -> None:
    before = torch.ones(2, 3, 4)
    after = before.clone()
    after[1] *= 3
    torch.testing.assert_close(relative_change(before, after), torch.tensor([[0.0], [2.0]]))

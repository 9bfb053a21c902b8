import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.compiler.balancing import Balancing, balance, by_group
from tadp.kernels.planes import group_of_columns


def _weight(rows: int = 8, columns: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None)
@given(st.integers(0, 100), st.floats(0, 1))
def test_factors_are_above_0_and_average_to_1(seed: int, alpha: float) -> None:
    peaks = torch.rand(16, generator=torch.Generator().manual_seed(seed)) * 100
    factors = balance(peaks, _weight(seed=seed), alpha)
    assert (factors > 0).all()
    assert factors.log().mean().item() == pytest.approx(0.0, abs=1e-5)


def test_at_half_both_sides_have_equal_peaks() -> None:
    peaks, weight = torch.rand(16) + 0.1, _weight()
    factors = balance(peaks, weight, 0.5)
    torch.testing.assert_close(
        (peaks / factors) / (peaks / factors).mean(),
        (weight * factors).abs().amax(0) / (weight * factors).abs().amax(0).mean(),
    )


def test_the_ends_even_out_one_side() -> None:
    peaks, weight = torch.rand(16) + 0.1, _weight()
    even = peaks / balance(peaks, weight, 1.0)
    torch.testing.assert_close(even, even.mean().expand(16))
    even = (weight * balance(peaks, weight, 0.0)).abs().amax(0)
    torch.testing.assert_close(even, even.mean().expand(16))


def test_channels_without_values_keep_finite_factors() -> None:
    factors = balance(torch.zeros(16), _weight(), 0.5)
    assert factors.isfinite().all()
    peaks = torch.ones(16)
    peaks[3] = 0
    assert balance(peaks, torch.zeros(8, 16), 0.5).isfinite().all()


def test_groups_follow_the_wish_on_average() -> None:
    columns, groups = 128, 2
    reference, wished = torch.rand(columns) + 0.5, torch.rand(columns) + 0.5
    found = by_group(wished, reference, groups)
    owners = group_of_columns(columns, groups)
    ratio = (found / reference).log()
    for group in range(groups):
        own = owners == group
        assert ratio[own].std().item() == pytest.approx(0.0, abs=1e-6)
        assert ratio[own].mean().item() == pytest.approx((wished / reference).log()[own].mean().item(), abs=1e-5)


def test_shapes_and_alphas_are_checked() -> None:
    with pytest.raises(ValueError, match="alpha"):
        balance(torch.ones(16), _weight(), 1.5)
    with pytest.raises(ValueError, match="peaks"):
        balance(torch.ones(8), _weight())


def test_layers_that_read_one_input_share_their_factors() -> None:
    peaks = {"q": torch.rand(2, 16) + 0.1, "alone": torch.rand(2, 16) + 0.1}
    peaks["k"] = peaks["q"].clone()
    weights = {name: _weight(seed=seed) for seed, name in enumerate(("q", "k", "alone", "unseen"))}
    found = Balancing(peaks, 0.5).factors(weights)
    assert torch.equal(found["q"], found["k"])
    assert not torch.equal(found["q"], found["alone"])
    assert torch.equal(found["unseen"], torch.ones(16))
    both = torch.cat([weights["q"], weights["k"]])
    torch.testing.assert_close(1 / found["q"], balance(peaks["q"].amax(0), both, 0.5))


def test_balancing_needs_peaks_and_a_share() -> None:
    with pytest.raises(ValueError, match="tadp calibrate"):
        Balancing({}, 0.5)
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        Balancing({"q": torch.ones(1, 16)}, 1.5)

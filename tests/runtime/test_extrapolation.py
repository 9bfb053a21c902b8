"""Foretelling values that change with the noise."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tadp.precision import Extrapolation
from tadp.runtime.extrapolation import Comparison, Kept, compare, foretell, sums

NOISES = (0.9, 0.7, 0.55, 0.3)
SHAPE = (2, 40, 8)


def _seen(values: list[torch.Tensor], noises: tuple[float, ...] = NOISES) -> tuple[list[Kept], Comparison]:
    """The newest two values kept, and how well the two before the newest had foretold it."""
    kept = [Kept(noise, (value,)) for noise, value in zip(noises, values, strict=False)][::-1]
    truth, *before = kept
    size = truth.values[0].double().square().sum().float()
    return kept[:2], compare(sums(truth.values, before[:2], truth.noise, size).tolist(), before[:2], truth.noise)


def _line(noise: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    start, slope = torch.randn(2, *SHAPE, generator=generator)
    return start + noise * slope


@pytest.mark.parametrize("extrapolation", [Extrapolation.MEASURED, Extrapolation.LINEAR])
def test_what_lies_on_a_line_is_foretold(extrapolation: Extrapolation) -> None:
    kept, seen = _seen([_line(noise) for noise in NOISES[:3]])
    found = foretell(kept, seen, NOISES[3], extrapolation)
    torch.testing.assert_close(found.of(kept)[0], _line(NOISES[3]), rtol=1e-4, atol=1e-4)
    assert found.error < 1e-8


def test_a_constant_misses_what_moves_and_says_by_how_much() -> None:
    kept, seen = _seen([_line(noise) for noise in NOISES[:3]])
    found = foretell(kept, seen, NOISES[3], Extrapolation.CONSTANT)
    assert found.of(kept)[0] is kept[0].values[0]
    missed = (kept[0].values[0] - _line(NOISES[3])).square().sum() / _line(NOISES[2]).square().sum()
    assert found.error == pytest.approx(missed.item(), rel=1e-3)


def test_noise_alone_is_not_extrapolated() -> None:
    """Rounding makes values differ from run to run; a line through two of them would make that worse."""
    generator = torch.Generator().manual_seed(1)
    still = torch.randn(1, 4000, 16, generator=generator)
    rounding = 1e-4
    noisy = [still + rounding**0.5 * torch.randn(still.shape, generator=generator) for _ in NOISES[:3]]
    kept, seen = _seen(noisy)
    measured, line = (foretell(kept, seen, NOISES[3], how) for how in (Extrapolation.MEASURED, Extrapolation.LINEAR))
    assert abs(measured.before) < 0.1 < abs(line.before)
    missed = [(found.of(kept)[0] - still).square().mean().item() for found in (measured, line)]
    assert missed[0] < 1.5 * rounding < missed[1]


@given(
    seed=st.integers(0, 2**16),
    noise=st.floats(0.0, 1.0),
    share=st.floats(0.0, 1.0),
    between=st.floats(0.01, 0.3),
)
def test_three_sums_tell_the_error_of_every_share(seed: int, noise: float, share: float, between: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth, newest, before = torch.randn(3, 64, generator=generator)
    kept = (Kept(noise + between, (newest,)), Kept(noise + 2 * between, (before,)))
    seen = compare(sums((truth,), kept, noise, torch.ones(())).tolist(), kept, noise)
    a, b, r = newest.double(), before.double(), truth.double()
    expected = (r - a - share * (a - b) * (noise - kept[0].noise) / (kept[0].noise - kept[1].noise)).square().sum()
    # Three float32 sums of 64 terms each, of at most 4 times the squared lengths.
    size = (a.square() + b.square() + r.square()).sum().item()
    assert seen.error(share) == pytest.approx(expected.item(), abs=12 * 64 * 2**-24 * size)


def test_error_grows_with_the_distance() -> None:
    def curve(noise: float) -> torch.Tensor:
        return _line(noise) + 0.5 * noise**2

    kept, seen = _seen([curve(noise) for noise in (0.9, 0.8, 0.7)], (0.9, 0.8, 0.7))
    near, far = (foretell(kept, seen, noise, Extrapolation.LINEAR) for noise in (0.6, 0.5))
    missed = {
        noise: (found.of(kept)[0] - curve(noise)).square().sum().item() / curve(0.7).square().sum().item()
        for noise, found in ((0.6, near), (0.5, far))
    }
    assert near.error == pytest.approx(missed[0.6], rel=0.01)
    assert far.error == pytest.approx(missed[0.5], rel=0.01)


def test_one_kept_value_is_a_constant() -> None:
    kept, seen = _seen([_line(0.9), _line(0.7)], (0.9, 0.7))
    assert foretell(kept[:1], seen, 0.5, Extrapolation.LINEAR).before == 0
    assert seen.gaps == pytest.approx((0.2, 0.0))


def test_values_at_one_noise_have_no_direction() -> None:
    kept, seen = _seen([_line(0.9), _line(0.9), _line(0.9)], (0.9, 0.9, 0.9))
    assert foretell(kept, seen, 0.9, Extrapolation.MEASURED).before == 0


def test_numbers_that_are_none_are_never_within_a_bound() -> None:
    kept, seen = _seen([torch.full(SHAPE, float("nan"))] * 3)
    error = foretell(kept, seen, 0.2, Extrapolation.MEASURED).error
    assert not error <= 1e9

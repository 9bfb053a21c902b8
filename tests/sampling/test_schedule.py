"""The levels of rCM, against TrigFlow's own definition."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadp.sampling.schedule import MID_TIMES, rcm_sigmas


def test_the_first_level_has_sigma_max_times_as_much_noise_as_signal() -> None:
    first = rcm_sigmas(1)[0]
    assert first / (1 - first) == pytest.approx(80.0, rel=1e-13)


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_fewer_steps_take_the_first_mid_times(steps: int) -> None:
    levels = rcm_sigmas(steps)
    assert len(levels) == steps + 1
    assert levels[-1] == 0.0
    for level, time in zip(levels[1:-1], MID_TIMES, strict=False):
        # Noise over signal is tan(t) in TrigFlow and s / (1 - s) in rectified flow.
        assert level / (1 - level) == pytest.approx(math.tan(time), rel=1e-12)


@pytest.mark.parametrize("steps", [-1, 0, 5])
def test_steps_without_times_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"times for 1 to 4 steps, not for {steps}"):
        rcm_sigmas(steps)


@pytest.mark.parametrize(
    ("sigma_max", "mid_times"), [(80.0, (1.5, 1.5)), (80.0, (1.0, 1.4)), (80.0, (1.5, 0.0)), (10.0, (1.5,)), (-1.0, ())]
)
def test_times_that_do_not_fall_are_refused(sigma_max: float, mid_times: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must fall"):
        rcm_sigmas(1, sigma_max, mid_times)


@given(
    sigma_max=st.floats(1e-3, 1e6),
    shares=st.lists(st.floats(0.01, 0.99), max_size=6),
)
def test_levels_fall_from_below_one_to_zero(sigma_max: float, shares: list[float]) -> None:
    times = []
    for share in shares:
        times.append((times[-1] if times else math.atan(sigma_max)) * share)
    levels = rcm_sigmas(len(times) + 1, sigma_max, tuple(times))
    assert 0 < levels[0] < 1
    assert all(high > low for high, low in itertools.pairwise(levels))

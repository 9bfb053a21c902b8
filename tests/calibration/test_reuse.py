"""What reuse costs, from made-up clips."""

from collections.abc import Callable

import pytest

from tadp.calibration.clip_policies import BASE, BOUNDS, UNIT, reuse_windows, reusing
from tadp.calibration.reuse import fit_reuse
from tadp.calibration.samples import Outcome, Sample
from tadp.planning.reuse_costs import ReuseCosts
from tadp.precision import Recipe

STAGES = (0.9, 0.5)
COUNTS = (2, 2, 2)
SCORES = [0.0, 0.5, 1.0]


def _fit(at_16: tuple[float, float], added: Callable[[float], float], left_out: float = 0.5) -> ReuseCosts | None:
    """Clips at 8 bits with an error of 1e-4, which reuse changes by `added`."""

    def outcome(mse: float, share: float) -> Outcome:
        return Outcome(mse, 1.0, 0.0, 1.0, reused=(0.0, 0.0, *[share] * 4), kept_bytes=7)

    outcomes = {BASE.key: outcome(1e-4, 0.0), reusing(Recipe(), UNIT, STAGES).key: outcome(sum(at_16), left_out)}
    outcomes |= {policy.key: outcome(mse, left_out) for policy, mse in zip(reuse_windows(STAGES), at_16, strict=True)}
    outcomes |= {
        reusing(BASE.recipe, bound, STAGES).key: outcome(1e-4 + added(bound), left_out * bound / UNIT)
        for bound in BOUNDS
    }
    samples = [Sample(f"prompt {index}", index, {}, outcomes) for index in range(3)]
    return fit_reuse(samples, SCORES, STAGES, COUNTS)


def test_errors_at_8_bits_are_in_units_of_those_at_16() -> None:
    found = _fit((3e-6, 1e-6), lambda bound: 8e-6 * bound / UNIT)
    assert found is not None
    assert found.shares == pytest.approx((0.0, 0.75, 0.25))
    assert found.factors[UNIT] == pytest.approx(2.0)
    assert found.factor_at_16 == pytest.approx(1.0)
    assert found.mse((0.0, 0.0, UNIT), 0.5) == pytest.approx(2e-6)
    assert found.running(1, UNIT, 0.3) == pytest.approx(0.5)
    assert found.running(0, UNIT, 0.3) == 1.0
    assert found.bytes == 7


def test_no_run_is_left_out_for_nothing() -> None:
    lucky = _fit((3e-6, 1e-6), lambda bound: 8e-6 * bound / UNIT if bound >= UNIT else -1e-5)
    assert lucky is not None
    assert lucky.factors[BOUNDS[0]] == pytest.approx(2.0 * BOUNDS[0] / UNIT)
    always = _fit((3e-6, 1e-6), lambda bound: -1e-5)
    assert always is not None
    assert always.factors[UNIT] == pytest.approx(1.0)
    assert always.factors[BOUNDS[0]] > 0


def test_where_nothing_is_left_out_there_is_nothing_to_choose() -> None:
    assert _fit((3e-6, 1e-6), lambda bound: 0.0, left_out=0.0) is None
    assert _fit((0.0, 0.0), lambda bound: 1e-6) is None

import pytest

from tadp.calibration.line import SMALLEST, fit_line, log_error
from tadp.calibration.samples import Outcome, Sample


def test_lines_are_fitted() -> None:
    found = fit_line([0.0, 0.25, 0.5, 1.0], [-5.0, -4.5, -4.0, -3.0])
    assert (found.intercept, found.slope) == (pytest.approx(-5.0), pytest.approx(2.0))
    assert found.spread == pytest.approx(0.0, abs=1e-9)
    assert found.psnr(0.5) == pytest.approx(40.0)


def test_lines_never_fall() -> None:
    found = fit_line([0.0, 1.0, 0.5], [-3.0, -5.0, -4.0])
    assert (found.intercept, found.slope) == (pytest.approx(-4.0), 0.0)


def test_the_spread_is_that_of_contents_left_out() -> None:
    misses = fit_line([0.0, 0.5, 1.0, 0.2, 0.8], [-5.0, -4.2, -3.0, -4.4, -3.6])
    assert misses.spread > 0.1


def test_a_single_content_gives_a_flat_line() -> None:
    with pytest.raises(ValueError, match="two"):
        fit_line([0.5], [-4.0])


def test_equal_clips_have_the_least_error() -> None:
    sample = Sample("a", 0, {}, {"static:16": Outcome(0.0, 1.0, 0.0, 1.0), "static:8": Outcome(1e-4, 1.0, 0.0, 1.0)})
    assert 10 ** log_error(sample, "static:16") == pytest.approx(SMALLEST)
    assert log_error(sample, "static:8") == pytest.approx(-4.0)

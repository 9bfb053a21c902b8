import pytest

from tadp.calibration.samples import Damage, Sample
from tadp.calibration.table import SMALLEST, line, log_damage


def test_lines_are_fitted() -> None:
    found = line([0.0, 0.25, 0.5, 1.0], [-5.0, -4.5, -4.0, -3.0])
    assert (found.intercept, found.slope) == (pytest.approx(-5.0), pytest.approx(2.0))
    assert found.spread == pytest.approx(0.0, abs=1e-9)
    assert found.psnr(0.5) == pytest.approx(40.0)


def test_lines_never_fall() -> None:
    found = line([0.0, 1.0, 0.5], [-3.0, -5.0, -4.0])
    assert (found.intercept, found.slope) == (pytest.approx(-4.0), 0.0)


def test_the_spread_is_that_of_contents_left_out() -> None:
    misses = line([0.0, 0.5, 1.0, 0.2, 0.8], [-5.0, -4.2, -3.0, -4.4, -3.6])
    assert misses.spread > 0.1


def test_a_single_content_gives_a_flat_line() -> None:
    with pytest.raises(ValueError, match="two"):
        line([0.5], [-4.0])


def test_equal_clips_have_the_least_damage() -> None:
    sample = Sample("a", 0, {}, {"static:16": Damage(0.0, 1.0, 0.0, 1.0), "static:8": Damage(1e-4, 1.0, 0.0, 1.0)})
    assert 10 ** log_damage(sample, "static:16") == pytest.approx(SMALLEST)
    assert log_damage(sample, "static:8") == pytest.approx(-4.0)

import math
from functools import partial

import pytest

from tadp.precision import L6, Recipe
from tadp.runtime.signals import BlockSignals, Signals, features

_block = partial(BlockSignals, "blocks.1")


def test_nothing_measured_gives_no_features() -> None:
    assert features([]) == features([Signals((_block(),))]) == {}


def test_every_signal_comes_down_to_one_number() -> None:
    first = _block(
        {
            ("entropy", ""): (0.5, 0.7),
            ("entropy_error", ""): (9.0, 9.0),
            ("relative_change", ""): (0.1, 0.2),
            ("relative_change_delta", ""): (-0.1, 0.3),
            ("kurtosis", "a"): (3.0, 4.0),
            ("kurtosis", "b"): (100.0, 5.0),
            ("skewness", "a"): (-1.0,),
            ("quantization_error:8", "a"): (0.01,),
            ("quantization_error:6", "a"): (0.04,),
            (f"shadow_error:{Recipe(L6)}", ""): (0.02, 0.04),
        }
    )
    second = _block({("quantization_error:8", "a"): (0.03,), ("quantization_error:6", "a"): (0.06,)})
    assert features([Signals((first,)), Signals((second,))]) == pytest.approx(
        {
            "entropy": 0.6,
            "kurtosis": 4.5,
            "skewness": 1.0,
            "relative_change": 0.15,
            "relative_change_delta": 0.2,
            "quantization_error:6": 0.05,
            "quantization_error:8": 0.02,
            f"shadow_error:{Recipe(L6)}": 0.03,
        }
    )


def test_values_that_are_not_finite_are_left_out() -> None:
    assert features([Signals((_block({("entropy", ""): (math.nan, 0.5), ("relative_change", ""): (math.inf,)}),))]) == {
        "entropy": 0.5
    }


def test_blocks_that_are_not_asked_for_do_not_count() -> None:
    end = BlockSignals("blocks.0", {("entropy", ""): (0.9,), ("kurtosis", "a"): (50.0,)})
    forward = Signals((end, _block({("entropy", ""): (0.5,)})), guidance={"guidance_gap": (0.1,)})
    assert features([forward], {"blocks.1"}) == {"guidance_gap": 0.1, "entropy": 0.5}

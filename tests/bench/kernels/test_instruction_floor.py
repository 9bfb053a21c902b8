"""The floor of integer products is known for every instruction set that has one."""

import shutil

import pytest

from bench.kernels.instruction_floor import MULTIPLY_ADDS, function_of, rates
from tadp.kernels.formats import WIDTHS
from tadp.kernels.isa import NAMES, is_available

VECTORS = [name for name in NAMES if name != "portable"]


def test_every_vector_set_has_a_function_at_every_width() -> None:
    assert {function_of(name, width) for name in VECTORS for width in WIDTHS} == set(MULTIPLY_ADDS)


def test_portable_code_has_none() -> None:
    assert rates("portable") == {}


@pytest.mark.spawns
def test_present_sets_are_timed_at_every_width() -> None:
    wanted = WIDTHS if shutil.which("c++") else ()
    for name in filter(is_available, VECTORS):
        assert set(rates(name)) == set(wanted)
        assert all(rate > 1e9 for rate in rates(name).values())

"""The table of formats, and everything that holds the same numbers in another language."""

import re
from pathlib import Path

import pytest

from tadp.kernels.formats import CODE_BITS, FORMATS, GROUP_SIZES, MAX_COLUMNS, PLANE_BITS, WIDTHS
from tadp.precision import Level
from tadp.runtime.signals import measures

HEADER = Path(__file__).resolve().parents[2] / "csrc" / "formats.h"


def test_the_header_of_the_compiled_library_has_the_same_table() -> None:
    text = HEADER.read_text()
    rows = re.findall(r"\{(\d+), (\d+), (\d+), (\d+), ([\d.]+)F\},", text)
    found = [(int(width), int(planes), int(shift), int(zero), float(half)) for width, planes, shift, zero, half in rows]
    assert found == [(row.width, len(row.planes), row.shift, row.zero, row.half) for row in FORMATS.values()]
    sizes = re.search(r"kGroupSizes\[\] = \{(.*)\}", text)
    assert sizes is not None
    assert tuple(map(int, sizes[1].split(", "))) == GROUP_SIZES
    assert f"kMaxColumns = {MAX_COLUMNS};" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_a_width_reads_the_leading_planes_that_hold_its_bits(width: int) -> None:
    row = FORMATS[width]
    assert row.planes == tuple(PLANE_BITS)[: len(row.planes)]
    assert width == sum(PLANE_BITS[plane] for plane in row.planes)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_zero_point_is_the_centre_of_the_cell_that_zero_lies_in(width: int) -> None:
    cell = 2 ** FORMATS[width].shift
    assert FORMATS[width].zero_point == FORMATS[CODE_BITS].zero_point - (cell - 1) / 2
    assert FORMATS[width].half in (0.0, 0.5)  # kernels subtract it in floating point, as the only part of z_b


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_is_a_level(width: int) -> None:
    assert Level.parse(str(width)) == Level(width, 8)
    assert Level.parse(f"w{width}a16") == Level(width, 16)


def test_probes_measure_the_same_widths() -> None:
    assert measures.WIDTHS == WIDTHS

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.calibration.channel_widths import WIDTHS, channel_widths

Errors = dict[str, dict[int, torch.Tensor]]


@st.composite
def models(draw: st.DrawFn) -> tuple[Errors, dict[str, int]]:
    """One or two layers of one to three channels, whose errors fall with the width, evenly or not."""
    errors: Errors = {}
    columns = {}
    for layer in ("first", "second")[: draw(st.integers(1, 2))]:
        rows = draw(st.integers(1, 3))
        part = st.lists(st.floats(0.0, 1.0), min_size=rows, max_size=rows)
        at_8, more, most = (torch.tensor(draw(part), dtype=torch.float64) for _ in range(3))
        errors[layer] = {8: at_8, 6: at_8 + more, 4: at_8 + more + most}
        columns[layer] = draw(st.sampled_from((4, 8)))
    return errors, columns


def _rows(errors: Errors, columns: dict[str, int]) -> list[tuple[int, dict[int, float]]]:
    """Inputs and errors by width of every channel."""
    return [
        (columns[layer], {width: float(found[width][row]) for width in WIDTHS})
        for layer, found in errors.items()
        for row in range(len(found[4]))
    ]


@settings(deadline=None, max_examples=100)
@given(models(), st.sampled_from((5, 6, 7)))
def test_no_choice_is_better_but_for_one_channel(model: tuple[Errors, dict[str, int]], average: int) -> None:
    errors, columns = model
    rows = _rows(errors, columns)
    found = [int(width) for widths in channel_widths(errors, columns, average).values() for width in widths]
    room = average * sum(inputs for inputs, _ in rows)

    def bits(widths: Any) -> int:
        return sum(inputs * width for (inputs, _), width in zip(rows, widths, strict=True))

    def error(widths: Any) -> float:
        return sum(known[width] for (_, known), width in zip(rows, widths, strict=True))

    best = min(error(widths) for widths in itertools.product(WIDTHS, repeat=len(rows)) if bits(widths) <= room)
    assert bits(found) <= room
    assert error(found) - best <= max(known[4] - known[8] for _, known in rows) + 1e-9


def test_important_channels_get_more_bits() -> None:
    importance = torch.logspace(-3, 3, 64, dtype=torch.float64)
    errors = {"layer": {width: importance * 4.0 ** (4 - width) for width in WIDTHS}}
    widths = channel_widths(errors, {"layer": 32}, 6)["layer"]
    assert widths.dtype == torch.uint8
    assert (widths.diff() >= 0).all()
    assert widths.unique().tolist() == [4, 6, 8]
    assert widths.double().mean() == 6


def test_layers_share_the_average() -> None:
    errors = {
        name: {width: torch.full((8,), size * 4.0 ** (4 - width)) for width in WIDTHS}
        for name, size in (("weak", 1e-6), ("strong", 1.0))
    }
    widths = channel_widths(errors, {"weak": 16, "strong": 16}, 6)
    assert widths["weak"].tolist() == [4] * 8
    assert widths["strong"].tolist() == [8] * 8


@pytest.mark.parametrize("average", [3, 9])
def test_averages_that_no_widths_have_are_refused(average: int) -> None:
    with pytest.raises(ValueError, match="4 to 8 bits"):
        channel_widths({}, {}, average)


def test_the_extremes_are_uniform() -> None:
    errors = {"layer": {width: torch.rand(5) for width in WIDTHS}}
    assert channel_widths(errors, {"layer": 4}, 4)["layer"].tolist() == [4] * 5
    assert channel_widths(errors, {"layer": 4}, 8)["layer"].tolist() == [8] * 5

"""Codes that a target can hold are kept bit for bit; what else happens is counted, and no further off than rounding."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.files.foreign import comfyui, saved
from tadp.files.foreign.pieces import Grid, plain_piece, round_rows
from tadp.files.foreign.tensors import Parts, RowCodes, Stored
from tests.files.foreign.checkpoints import heavy

GRIDS = {"planes": saved.GRID, "int8": comfyui.GRID}


def _parts(codes: torch.Tensor, scale: torch.Tensor) -> Parts:
    return Parts(lambda start, stop: codes[start:stop] * scale[start:stop, None], RowCodes(codes, scale))


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 2**31 - 1),
    st.sampled_from(sorted(GRIDS)),
    st.integers(1, 5),
    st.integers(1, 70),
    st.tuples(st.integers(-255, 255), st.integers(-255, 255)),
)
def test_codes_in_range_are_kept_and_others_are_no_further_off_than_clipped(
    seed: int, name: str, rows: int, columns: int, ends: tuple[int, int]
) -> None:
    grid: Grid = GRIDS[name]
    generator = torch.Generator().manual_seed(seed)
    low, high = sorted(ends)
    codes = torch.randint(low, high + 1, (rows, columns), generator=generator, dtype=torch.int16)
    scale = torch.rand(rows, generator=generator) + 0.01
    scale = scale * (1 - 2 * torch.randint(0, 2, (rows,), generator=generator))
    parts = _parts(codes, scale)
    expected = parts.rows(0, rows)
    rounded = round_rows(parts, 0, rows, grid, 0)
    found = rounded.codes * rounded.scale[:, None]
    assert rounded.codes.min() >= grid.low
    assert rounded.codes.max() <= grid.high
    assert grid.signed or (rounded.scale >= 0).all()
    kept = 0
    for row in range(rows):
        own = codes[row] if grid.signed or scale[row] > 0 else -codes[row]
        sides = (own, -own) if grid.signed else (own,)
        fits = any(side.min() >= grid.low and side.max() <= grid.high for side in sides)
        kept += fits
        off = float((expected[row] - found[row]).double().square().sum())
        if fits:
            assert torch.equal(found[row], expected[row])
            continue
        again, again_scale = grid.encode(expected[row : row + 1])
        clipped = min(float((side - side.clamp(grid.low, grid.high)).double().square().sum()) for side in sides)
        rounding = float((expected[row] - again[0] * again_scale).double().square().sum())
        assert off <= min(clipped * float(scale[row]) ** 2, rounding) * (1 + 1e-5)
    assert rounded.changed == rows - kept
    assert rounded.noise == pytest.approx(float((expected.double() - found.double()).square().sum()))
    assert rounded.signal == pytest.approx(float(expected.double().square().sum()))


def test_a_row_of_zeros_has_no_scale_in_planes() -> None:
    rounded = round_rows(_parts(torch.zeros(2, 8, dtype=torch.int8), torch.ones(2)), 0, 2, saved.GRID, 0)
    assert not rounded.scale.any()
    assert rounded.changed == 0


def test_codes_under_another_rotation_are_rounded() -> None:
    weight = heavy(4, 256)
    codes, scale = comfyui.encode(weight)
    parts = Parts(lambda start, stop: (codes * scale[:, None])[start:stop], RowCodes(codes, scale, rotation=64))
    assert round_rows(parts, 0, 4, comfyui.GRID, 256).changed == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_tensors_say_what_a_narrower_type_costs(dtype: torch.dtype) -> None:
    weight = heavy(300, 40)
    stored = Stored("x", "x", (300, 40), torch.float32, lambda: weight)
    tensors, outcome = plain_piece(stored, "x", dtype).make()
    assert torch.equal(tensors["x"], weight.to(dtype))
    assert outcome.changed == (0 if dtype == torch.float32 else 300)
    if dtype == torch.float32:
        assert math.isinf(outcome.decibels)
    else:
        error = (weight - weight.to(dtype).float()).double().square().sum() / weight.double().square().sum()
        assert outcome.decibels == pytest.approx(-10 * math.log10(float(error)))

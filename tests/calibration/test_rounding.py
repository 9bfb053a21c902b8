"""Codes chosen with data: what holds for every weight and every activation, and what is won."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.calibration.rounding import IMPORTANCE, Choice, Curvature, compensate, objective
from tadp.kernels import BitPlaneWeight
from tadp.kernels.formats import FORMATS
from tadp.kernels.planes import encode

SEEDS = st.integers(0, 2**16)
IMPORTANCES = st.fixed_dictionaries({width: st.floats(1e-3, 10) for width in (8, 6, 4)})


def _random(seed: int, rows: int, columns: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight, and activations whose channels depend on each other and differ in size, as a network's do."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    mixing = torch.randn(columns, columns, generator=generator) / columns**0.5
    sizes = torch.randn(columns, generator=generator).exp()
    return weight, torch.randn(tokens, columns, generator=generator) @ mixing * sizes


def _ratio(weight: torch.Tensor, x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor, width: int) -> float:
    """Signal to noise of a layer's output, dB."""
    restored = BitPlaneWeight.from_codes(codes, scale, torch.float32).dequantize(width)
    signal, noise = x.double() @ weight.double().T, x.double() @ (restored - weight).double().T
    return float(10 * torch.log10(signal.square().sum() / noise.square().sum()))


@settings(deadline=None, max_examples=40)
@given(SEEDS, IMPORTANCES, st.floats(0.1, 60), st.floats(-300, 300))
def test_the_code_that_is_chosen_is_the_best_of_all(
    seed: int, importance: dict[int, float], apart: float, middle: float
) -> None:
    """Targets of the widths lie together or far apart, inside the codes' range and beyond."""
    code = torch.arange(256)
    shifts = [row.shift for row in FORMATS.values()]
    readings = torch.stack([(code >> row.shift << row.shift) - row.zero_point for row in FORMATS.values()])
    weights = torch.tensor([importance[8 - shift] / 4**shift for shift in shifts])
    targets = middle + apart * torch.randn(3, 50, generator=torch.Generator().manual_seed(seed))
    found = Choice.of(readings, weights).best(targets)
    costs = (weights[:, None, None] * (readings[:, None] - targets[:, :, None]).double().square()).sum(0)
    ours = costs.gather(1, found[:, None]).squeeze(1)
    assert torch.allclose(ours, costs.amin(1), rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(SEEDS, st.integers(1, 9), st.integers(1, 70), st.integers(0, 90), IMPORTANCES)
def test_no_row_gets_worse_than_without_data(
    seed: int, rows: int, columns: int, tokens: int, importance: dict[int, float]
) -> None:
    weight, x = _random(seed, rows, columns, tokens)
    curvature = Curvature.of(x.T @ x)
    codes, scale = compensate(weight, curvature, importance=importance)
    plain, of_plain = encode(weight)
    assert torch.equal(scale, of_plain)
    ours, theirs = (objective(weight, curvature, found, scale, importance) for found in (codes, plain))
    assert (ours <= theirs).all()
    again, _ = compensate(weight, curvature, importance=importance)
    assert torch.equal(codes, again)


@settings(deadline=None, max_examples=20)
@given(SEEDS, st.sampled_from([64, 128]), st.integers(1, 3))
def test_groups_have_the_scales_of_encode_and_err_no_more(seed: int, size: int, groups: int) -> None:
    weight, x = _random(seed, 4, size * groups, 300)
    curvature = Curvature.of(x.T @ x)
    codes, scale = compensate(weight, curvature, size)
    plain, of_plain = encode(weight, size)
    assert torch.equal(scale, of_plain)
    ours, theirs = (objective(weight, curvature, found, scale) for found in (codes, plain))
    assert (ours <= theirs).all()
    assert ours.sum() < theirs.sum()


def test_the_objective_is_the_error_of_outputs_by_width() -> None:
    weight, x = _random(0, 5, 64, 4000)
    codes, scale = encode(weight, 64)
    curvature = Curvature.of(x.T @ x)
    packed = BitPlaneWeight.from_codes(codes, scale, torch.float32)
    columns = x.square().sum(0).mean()
    expected = torch.zeros(5, dtype=torch.float64)
    for width, importance in IMPORTANCE.items():
        error = (packed.dequantize(width) - weight).double()
        outputs = (x.double() @ error.T).square().sum(0) / columns
        expected += importance / 4 ** (8 - width) * (outputs + 0.03 * error.square().sum(1))
    assert torch.allclose(objective(weight, curvature, codes, scale), expected, rtol=1e-4)


def test_other_activations_gain_at_narrow_widths_and_lose_nothing_at_8_bits() -> None:
    weight, x = _random(1, 64, 128, 8000)
    seen, unseen = x[:4000], x[4000:]
    codes, scale = compensate(weight, Curvature.of(seen.T @ seen))
    plain, of_plain = encode(weight)
    won = {
        width: _ratio(weight, unseen, codes, scale, width) - _ratio(weight, unseen, plain, of_plain, width)
        for width in (8, 6, 4)
    }
    assert won[8] > -0.5
    assert won[6] > 1
    assert won[4] > 1


def test_importance_trades_one_width_for_another() -> None:
    weight, x = _random(2, 48, 96, 4000)
    curvature = Curvature.of(x.T @ x)
    wide, narrow = ({8: eight, 6: 0.1, 4: four} for eight, four in ((1.0, 0.01), (0.001, 1.0)))
    of_wide, of_narrow = ([*compensate(weight, curvature, importance=chosen)] for chosen in (wide, narrow))
    assert _ratio(weight, x, *of_wide, 8) > _ratio(weight, x, *of_narrow, 8) + 3
    assert _ratio(weight, x, *of_narrow, 4) > _ratio(weight, x, *of_wide, 4) + 3


def test_channels_that_are_always_zero_are_rounded_like_any() -> None:
    weight, x = _random(3, 8, 64, 500)
    x[:, ::3] = 0
    codes, scale = compensate(weight, Curvature.of(x.T @ x))
    error = BitPlaneWeight.from_codes(codes, scale, torch.float32).dequantize(8) - weight
    assert (error[:, ::3].abs() <= 16 * scale.abs()[:, None]).all()
    nothing = Curvature.of(torch.zeros(64, 64))
    codes, scale = compensate(weight, nothing)
    assert (objective(weight, nothing, codes, scale) <= objective(weight, nothing, encode(weight)[0], scale)).all()


def test_rows_of_zeros_keep_the_codes_of_zero() -> None:
    weight, x = _random(4, 6, 64, 500)
    weight[2] = 0
    codes, scale = compensate(weight, Curvature.of(x.T @ x))
    assert scale[2] == 0
    assert torch.equal(codes[2], encode(weight)[0][2])


def test_rows_in_slices_are_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = _random(5, 20, 64, 500)
    curvature = Curvature.of(x.T @ x)
    whole, _ = compensate(weight, curvature)
    monkeypatch.setattr("tadp.calibration.rounding._ROWS_AT_ONCE", 7)
    parts, _ = compensate(weight, curvature)
    assert (whole == parts).float().mean() > 0.999  # sums of products depend on their shapes in the last bit


@pytest.mark.parametrize(
    ("hessian", "message"),
    [
        (torch.ones(3, 4), r"\(columns, columns\)"),
        (torch.full((4, 4), float("nan")), "finite"),
        (-torch.eye(4), "below 0"),
        (torch.tensor([[1.0, 9.0], [9.0, 1.0]]), "positive"),
    ],
)
def test_what_is_no_hessian_is_refused(hessian: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Curvature.of(hessian)


def test_what_does_not_fit_is_refused() -> None:
    curvature = Curvature.of(torch.eye(8))
    with pytest.raises(ValueError, match="8 columns, the weight has 4"):
        compensate(torch.ones(2, 4), curvature)
    for importance in ({8: 1.0, 4: 1.0}, {8: 1.0, 6: 0.0, 4: 1.0}):
        with pytest.raises(ValueError, match="above 0 for each of 8, 6, 4 bits"):
            compensate(torch.ones(2, 8), curvature, importance=importance)

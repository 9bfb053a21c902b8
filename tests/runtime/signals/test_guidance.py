import math
from types import SimpleNamespace

import pytest
import torch

from tadp.runtime.signals import columns_as_values, guidance_measure, prediction_of


def _measured(ours: torch.Tensor, theirs: torch.Tensor) -> dict[str, tuple[float, ...]]:
    return columns_as_values("guidance", guidance_measure(ours, theirs))


def _video(*frames: float) -> torch.Tensor:
    return torch.tensor(frames).view(1, 1, -1, 1, 1).expand(1, 2, -1, 4, 4)


def test_a_still_difference_does_not_move() -> None:
    found = _measured(_video(3.0, 5.0, 2.0), _video(2.0, 4.0, 1.0))
    assert found["guidance_motion"] == (0.0,)
    assert found["guidance_spread"] == pytest.approx((1.0,))
    assert found["guidance_gap"] == pytest.approx((math.sqrt(3 / 21),))


def test_motion_is_the_share_of_what_changes_between_frames() -> None:
    found = _measured(_video(1.0, -1.0, 1.0), _video(0.0, 0.0, 0.0))
    assert found["guidance_motion"] == pytest.approx((math.sqrt(8 / 3),))
    assert found["guidance_gap"] == (math.inf,)


def test_spread_is_the_share_of_positions_that_differ() -> None:
    ours, theirs = torch.zeros(2, 3, 2, 4, 4), torch.ones(2, 3, 2, 4, 4)
    ours += theirs
    ours[0, :, 0, 0] += 1  # 4 of 32 positions
    ours[1, :, 1] += 1  # 16 of them
    assert _measured(ours, theirs)["guidance_spread"] == pytest.approx((4 / 32, 16 / 32))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 16, 3), (2, 3, 1, 4, 4)])
def test_what_has_no_frames_has_no_motion(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(shape, generator=generator) for _ in range(2))
    found = _measured(ours, theirs)
    assert set(found) == {"guidance_gap", "guidance_spread"}
    assert all(len(values) == 2 for values in found.values())


def test_sixteen_bits_are_measured_in_32() -> None:
    ours, theirs = _video(300.0, 301.0).half(), _video(299.0, 299.0).half()
    assert _measured(ours, theirs)["guidance_gap"] == pytest.approx((math.sqrt(5 / 2) / 299,), rel=1e-3)


def test_predictions_are_found_in_what_models_return() -> None:
    prediction = torch.zeros(1, 2, 3)
    for result in (prediction, (prediction, None), [prediction], SimpleNamespace(sample=prediction)):
        assert prediction_of(result) is prediction
    for result in (None, (), torch.zeros(3), ("text",), SimpleNamespace()):
        assert prediction_of(result) is None

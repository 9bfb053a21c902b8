import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tadp.quality.temporal import temporal_error


def _clip(seed: int, frames: int = 5) -> torch.Tensor:
    return torch.rand(frames, 8, 6, 3, generator=torch.Generator().manual_seed(seed))


def test_a_clip_moves_as_itself() -> None:
    assert temporal_error(_clip(0), _clip(0)) == 0


def test_an_error_that_stays_does_not_count_and_one_that_flickers_does() -> None:
    reference = _clip(0) / 2
    stays = reference + 0.1
    flickers = reference + 0.1 * (torch.arange(5) % 2)[:, None, None, None]
    assert temporal_error(stays, reference) == pytest.approx(0, abs=1e-6)
    assert temporal_error(flickers, reference) == pytest.approx(0.1, rel=1e-5)


@given(st.integers(0, 99), st.integers(100, 199))
def test_it_is_a_symmetric_distance_and_at_most_two(ours: int, theirs: int) -> None:
    found = temporal_error(_clip(ours), _clip(theirs))
    assert 0 < found <= 2
    assert found == temporal_error(_clip(theirs), _clip(ours))


def test_the_largest_difference_is_two() -> None:
    blinks = np.zeros((4, 2, 2, 3), dtype=np.float32)
    blinks[::2] = 1
    assert temporal_error(blinks, 1 - blinks) == 2


def test_one_frame_has_no_motion() -> None:
    with pytest.raises(ValueError, match="two frames"):
        temporal_error(_clip(0, 1), _clip(1, 1))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        temporal_error(_clip(0, 3), _clip(1, 4))

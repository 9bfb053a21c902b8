"""Quality figures say nothing where nothing can be said."""

import math

import numpy as np
import pytest

from tadp.commands.figures import measure

CLIP = np.random.default_rng(0).random((9, 16, 16, 3), dtype=np.float32) * 0.5


def test_without_baseline_and_vocabulary_there_is_nothing_to_say() -> None:
    assert set(measure("a quiet street", CLIP, None).values()) == {None}


def test_a_caption_of_the_embedded_model_is_looked_for() -> None:
    figures = measure("a red circle moves left", CLIP, None)
    assert 0 <= figures["alignment"].color <= 1


def test_against_itself_a_clip_is_identical() -> None:
    figures = measure("", CLIP, CLIP)
    assert figures["identical"] is True
    assert math.isinf(figures["psnr"])
    assert figures["ssim"] == pytest.approx(1.0)


def test_against_a_baseline_psnr_is_the_mean_over_all_pixels() -> None:
    figures = measure("", CLIP + np.float32(0.1), CLIP)
    assert figures["psnr"] == pytest.approx(20.0, abs=1e-3)  # 10 log10(1 / 0.1^2)
    assert 0 < figures["ssim"] < 1
    assert figures["identical"] is False


def test_clips_that_are_not_finite_or_too_small_have_no_figures() -> None:
    broken = CLIP.copy()
    broken[0, 0, 0, 0] = np.nan
    assert set(measure("a red circle", broken, CLIP).values()) == {None}
    assert measure("", CLIP, broken)["psnr"] is None
    small = CLIP[:, :8, :8]
    assert measure("", small, small)["ssim"] is None

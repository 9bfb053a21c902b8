import math

import numpy as np
import pytest
import torch

from tadp.quality.fidelity import ms_ssim, psnr, ssim


def noise(seed: int, shape: tuple[int, ...] = (3, 16, 24, 3)) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_identical_clips_are_infinitely_close() -> None:
    assert psnr(noise(0), noise(0)) == math.inf
    assert ssim(noise(0), noise(0)) == pytest.approx(1.0, abs=1e-6)


def test_psnr_follows_its_formula() -> None:
    clip = noise(0) * 0.8
    # A constant error e gives -20 log10(e) dB.
    assert psnr(clip + 0.1, clip) == pytest.approx(20.0, abs=1e-3)
    other = noise(1)
    expected = -10 * math.log10((clip.double() - other.double()).square().mean().item())
    assert psnr(clip, other) == pytest.approx(expected, abs=1e-3)


def test_more_noise_is_less_alike() -> None:
    clip = noise(0) * 0.5 + 0.25
    slightly, badly = (clip + amount * (noise(1) - 0.5) for amount in (0.05, 0.4))
    assert psnr(slightly, clip) > psnr(badly, clip)
    assert 1.0 > ssim(slightly, clip) > ssim(badly, clip)


def test_arrays_and_16_bit_clips_are_taken() -> None:
    assert psnr(noise(0).numpy(), noise(0).numpy()) == math.inf
    half = noise(0).bfloat16()
    assert psnr(half, noise(0)) > 40
    assert ssim(half, np.asarray(noise(0))) > 0.99


@pytest.mark.parametrize("measure", [psnr, ssim])
@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (torch.rand(3, 16, 16, 3), "one shape"),
        (torch.rand(3, 3, 16, 24), r"frames, height, width, 3"),
        (torch.rand(16, 24, 3), r"frames, height, width, 3"),
        (torch.full((3, 16, 24, 3), float("nan")), "NaN"),
        (torch.full((3, 16, 24, 3), -1.0), r"\[0, 1\]"),
        (torch.full((3, 16, 24, 3), 255, dtype=torch.uint8), "255"),
    ],
)
def test_what_is_no_clip_is_refused(measure, clip: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(clip, noise(0))


def test_frames_smaller_than_the_ssim_window_are_refused() -> None:
    small = noise(0, (2, 8, 8, 3))
    assert psnr(small, small) == math.inf
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(small, small)


def test_multiscale_similarity_falls_with_noise_and_sees_less_of_it_than_one_scale() -> None:
    clip, other = noise(0, (2, 176, 180, 3)) * 0.5 + 0.25, noise(1, (2, 176, 180, 3)) - 0.5
    slightly, badly = clip + 0.05 * other, clip + 0.4 * other
    assert ms_ssim(clip, clip) == pytest.approx(1.0, abs=1e-6)
    assert 1.0 > ms_ssim(slightly, clip) > ms_ssim(badly, clip) > 0.0
    assert ms_ssim(badly, clip) > ssim(badly, clip)  # independent pixels average out at coarser scales


def test_frames_smaller_than_five_scales_are_refused() -> None:
    with pytest.raises(ValueError, match="176 pixels"):
        ms_ssim(noise(0), noise(0))

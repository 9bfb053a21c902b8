import math
from pathlib import Path

import pytest
import torch

from tadp.quality.distribution import frechet_distance, frechet_video_distance


class Seen(torch.nn.Module):
    """In place of I3D: mean and spread of every colour."""

    def forward(self, video: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        assert (rescale, resize, return_features) == (False, False, True)
        return torch.cat([video.mean((2, 3, 4)), video.std((2, 3, 4))], dim=1)


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    path = tmp_path / "i3d.pt"
    torch.jit.script(Seen()).save(str(path))
    return path


def _clips(brightness: float, seed: int, count: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(9, 16, 16, 3, generator=generator) * 0.5 + brightness for _ in range(count)]


def test_distance_of_normal_distributions_follows_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(5000, 2, generator=generator, dtype=torch.float64)
    values = (values - values.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(values.T))).T
    # Means differ by (3, 4), deviations by 1 in either of two independent features: 25 + 1 + 1.
    assert frechet_distance(values, values * 2 + torch.tensor([3.0, 4.0])) == pytest.approx(27.0, rel=1e-9)


def test_covariances_count() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(5000, 2, generator=generator, dtype=torch.float64)
    turned = values @ torch.tensor([[1.0, 1.0], [-1.0, 1.0]], dtype=torch.float64) / math.sqrt(2)
    stretched = values * torch.tensor([3.0, 1.0])
    assert frechet_distance(values, turned) == pytest.approx(0.0, abs=0.01)
    assert frechet_distance(values, stretched) == pytest.approx(4.0, rel=0.05)


def test_fewer_samples_than_features_are_no_trouble() -> None:
    values = torch.rand(3, 20, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(values, values) == pytest.approx(0.0, abs=1e-6)
    assert frechet_distance(values, values + 1) == pytest.approx(20.0, rel=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [((3, 4), (3, 5), "one length"), ((4,), (3, 4), "one length"), ((1, 4), (3, 4), "two samples")],
)
def test_what_has_no_covariance_is_refused(first: tuple[int, ...], second: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance(torch.zeros(first), torch.zeros(second))


def test_clips_are_as_far_apart_as_what_a_network_sees(detector: Path) -> None:
    clips = _clips(0.0, seed=0)
    assert frechet_video_distance(clips, clips, detector) == pytest.approx(0.0, abs=1e-9)
    near, far = (frechet_video_distance(clips, _clips(by, seed=1), detector) for by in (0.1, 0.4))
    # Three colours in [-1, 1], each brighter by twice the brightness.
    assert far == pytest.approx(3 * 0.8**2, rel=0.02)
    assert near == pytest.approx(3 * 0.2**2, rel=0.1)


def test_short_clips_and_a_missing_network_are_refused(detector: Path, tmp_path: Path) -> None:
    short = [torch.rand(8, 16, 16, 3)] * 2
    with pytest.raises(ValueError, match="9 frames"):
        frechet_video_distance(short, short, detector)
    with pytest.raises(FileNotFoundError, match="i3d_torchscript"):
        frechet_video_distance(short, short, tmp_path / "none.pt")

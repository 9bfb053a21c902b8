import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torchmetrics.functional.image import lpips as torchmetrics_lpips

from tadp.quality.perceptual import lpips, missing


def _alexnet(weights: object = None) -> SimpleNamespace:
    """AlexNet's convolutions, with weights of chance."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after, side, stride, padding, pool in (
        (3, 64, 11, 4, 2, True),
        (64, 192, 5, 1, 2, True),
        (192, 384, 3, 1, 1, False),
        (384, 256, 3, 1, 1, False),
        (256, 256, 3, 1, 1, True),
    ):
        layers += [nn.Conv2d(before, after, side, stride, padding), nn.ReLU(inplace=True)]
        layers += [nn.MaxPool2d(3, 2)] if pool else []
    return SimpleNamespace(features=nn.Sequential(*layers))


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A torchvision that has nothing but AlexNet, and where its weights should be."""
    vision, models = ModuleType("torchvision"), ModuleType("torchvision.models")
    vision.__spec__ = ModuleSpec("torchvision", None)
    weights = SimpleNamespace(DEFAULT=SimpleNamespace(url="https://example.org/alexnet-1.pth"))
    models.__dict__.update(AlexNet_Weights=weights, alexnet=_alexnet)
    vision.__dict__.update(models=models)
    monkeypatch.setitem(sys.modules, "torchvision", vision)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    monkeypatch.setattr(torchmetrics_lpips, "_TORCHVISION_AVAILABLE", True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / "alexnet-1.pth"
    path.parent.mkdir()
    return path


def _noise(seed: int, side: int = 64) -> torch.Tensor:
    return torch.rand(2, side, side, 3, generator=torch.Generator().manual_seed(seed))


def test_more_noise_is_further_away(weights: Path) -> None:
    weights.touch()
    clip = _noise(0)
    assert lpips(clip, clip) == pytest.approx(0.0, abs=1e-6)
    slightly, badly = (lpips(clip * (1 - share) + _noise(1) * share, clip) for share in (0.1, 0.6))
    assert 0.0 < slightly < badly


def test_missing_weights_are_named_and_not_fetched(weights: Path) -> None:
    assert str(weights) in str(missing())
    with pytest.raises(FileNotFoundError, match=r"https://example\.org/alexnet-1\.pth"):
        lpips(_noise(0), _noise(0))


def test_without_torchvision_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install torchvision"):
        lpips(_noise(0), _noise(0))


def test_small_frames_are_refused(weights: Path) -> None:
    weights.touch()
    with pytest.raises(ValueError, match="31 pixels"):
        lpips(_noise(0, side=30), _noise(0, side=30))
    assert lpips(_noise(0, side=31), _noise(1, side=31)) > 0

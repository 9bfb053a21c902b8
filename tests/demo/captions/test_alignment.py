"""Rendered scenes, whose content is known, as they are and blurred as a small generative model would leave them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tadp.demo.captions.alignment import (
    AlignmentScore,
    Detected,
    Expected,
    alignment,
    compare,
    detect,
    parse_caption,
)
from tadp.demo.render import render
from tadp.demo.scenes import MOTIONS, Scene, SceneObject, sample_scene, trajectory

SCENES = 36
# Shares of a shape's area that nothing hides, at the median of the frames. With less than the first, a shape of 70
# pixels keeps too few for its colour to be told from noise; with less than the second, what is hidden bends outline and
# centroid further than shapes and motions differ.
BARELY_SEEN, WELL_SEEN = 0.25, 0.75


@dataclass(frozen=True)
class Rates:
    color: float
    shape: float
    motion: float
    extra: float  # colours seen that were not asked, per scene
    judged: float  # share of the shapes that are seen well, on which shape and motion are judged


def clips_of(scenes: Sequence[Scene]) -> torch.Tensor:
    """``(scenes, frames, height, width, 3)`` in [0, 1]."""
    return (render(scenes) / 2 + 0.5).permute(0, 2, 3, 4, 1)


def blurred(clips: torch.Tensor, sigma: float) -> torch.Tensor:
    offsets = torch.arange(-6.0, 7.0)
    kernel = torch.exp(-offsets.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    planes = clips.permute(0, 1, 4, 2, 3).flatten(0, 2)[:, None]
    planes = torch.nn.functional.pad(planes, (6, 6, 6, 6), mode="replicate")
    planes = torch.nn.functional.conv2d(planes, kernel.view(1, 1, 1, -1))
    planes = torch.nn.functional.conv2d(planes, kernel.view(1, 1, -1, 1))
    batch, frames, height, width, _ = clips.shape
    return planes[:, 0].view(batch, frames, 3, height, width).permute(0, 1, 3, 4, 2)


def dull_and_noisy(clips: torch.Tensor) -> torch.Tensor:
    """Colours at 70 % of their chroma, and noise of 0.03 on every value."""
    gray = clips.mean(dim=-1, keepdim=True)
    noise = torch.randn(clips.shape, generator=torch.Generator().manual_seed(0))
    return (gray + 0.7 * (clips - gray) + 0.03 * noise).clamp(0, 1)


def visible_share(scene: Scene, index: int) -> float:
    """How much of a shape's disc neither later discs nor the frame's edge hide, at the median of the frames."""
    grid = (np.arange(64) + 0.5) / 64
    paths = [trajectory(item, 17) for item in scene.objects]

    def disc(path: np.ndarray) -> np.ndarray:
        x, y, radius = (path[:, axis, None, None] for axis in range(3))
        return (grid[None, None, :] - x) ** 2 + (grid[None, :, None] - y) ** 2 <= radius**2

    shown = disc(paths[index])
    for later in paths[index + 1 :]:
        shown &= ~disc(later)
    whole = np.pi * paths[index][:, 2] ** 2 * 64**2
    return float(np.median(shown.sum(axis=(1, 2)) / whole))


def rates(scenes: Sequence[Scene], clips: torch.Tensor) -> Rates:
    color, shape, motion, extra = [], [], [], 0
    for scene, clip in zip(scenes, clips, strict=True):
        seen = {item.color: item for item in detect(clip)}
        extra += len(seen.keys() - {item.color for item in scene.objects})
        for index, item in enumerate(scene.objects):
            found = seen.get(item.color)
            share = visible_share(scene, index)
            if share >= BARELY_SEEN:
                color.append(found is not None)
            if share >= WELL_SEEN:
                shape.append(found is not None and found.shape == item.shape)
                motion.append(found is not None and found.motions == item.motions)
    means = (float(np.mean(values)) for values in (color, shape, motion))
    return Rates(*means, extra / len(scenes), len(shape) / sum(len(scene.objects) for scene in scenes))


@pytest.fixture(scope="module")
def single() -> tuple[list[Scene], torch.Tensor]:
    scenes = [sample_scene(seed, 1) for seed in range(SCENES)]
    return scenes, clips_of(scenes)


@pytest.mark.parametrize("sigma", [0.0, 1.0, 1.5])
def test_single_objects_are_read_right(single: tuple[list[Scene], torch.Tensor], sigma: float) -> None:
    scenes, clips = single
    found = rates(scenes, blurred(clips, sigma) if sigma else clips)
    assert found.color >= 0.99
    assert found.motion >= 0.97
    assert found.shape >= 0.90
    assert found.extra == 0


def test_single_objects_are_read_right_when_dull_and_noisy(single: tuple[list[Scene], torch.Tensor]) -> None:
    scenes, clips = single
    found = rates(scenes, dull_and_noisy(blurred(clips, 1.2)))
    assert found.color >= 0.99
    assert found.motion >= 0.97
    assert found.shape >= 0.90
    assert found.extra == 0


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_several_objects(count: int, sigma: float) -> None:
    """What is asked follows from what others hide: see `BARELY_SEEN` and `WELL_SEEN`; most shapes are seen well."""
    scenes = [sample_scene(seed, count) for seed in range(100, 112)]
    clips = clips_of(scenes)
    found = rates(scenes, blurred(clips, sigma) if sigma else clips)
    print(f"{count} objects, blur {sigma}: {found}")  # shown by -s
    assert found.judged >= 0.7
    assert found.color >= 0.99
    assert found.motion >= 0.90
    assert found.shape >= 0.90
    assert found.extra <= 0.1


@pytest.mark.parametrize("motion", MOTIONS)
def test_every_motion_is_named(motion: str) -> None:
    item = SceneObject("blue", "circle", "small", (motion,), (0.5, 0.5), phase=1.0)
    (seen,) = detect(clips_of([Scene((item,), "striped", 1)])[0])
    assert seen == Detected("blue", "circle", (motion,))


def test_a_change_of_motion_is_named() -> None:
    item = SceneObject("orange", "star", "large", ("moves up", "grows"), (0.5, 0.6), phase=0.0)
    scene = Scene((item,), "noisy", 3)
    clip = clips_of([scene])[0]
    assert detect(clip) == (Detected("orange", "star", ("moves up", "grows")),)
    assert alignment(clip, scene.caption) == AlignmentScore(1.0, 1.0, 1.0, 1.0)


def test_wrong_captions_score_low(single: tuple[list[Scene], torch.Tensor]) -> None:
    scenes, clips = single
    right = [alignment(clip, scene.caption) for scene, clip in zip(scenes, clips, strict=True)]
    # Captions are shifted to other clips; what still agrees does so by chance: 1 of 8 colours, and then 1 of 4 shapes.
    wrong = [alignment(clip, scenes[index - 1].caption) for index, clip in enumerate(clips)]
    assert np.mean([score.color for score in right]) >= 0.99
    assert np.mean([score.color for score in wrong]) <= 0.35
    assert np.mean([score.shape for score in wrong]) <= 0.2
    assert np.mean([score.motion for score in wrong]) <= 0.2


@pytest.mark.parametrize(
    ("caption", "lost"),
    [
        ("a green circle moves left on a black background", ("color", "shape", "motion")),
        ("a red square moves left on a black background", ("shape",)),
        ("a red circle moves right on a black background", ("motion",)),
        ("a red circle moves left and a blue star grows on a black background", ("color", "shape", "motion", "count")),
    ],
)
def test_each_fault_lowers_its_own_figure(caption: str, lost: tuple[str, ...]) -> None:
    item = SceneObject("red", "circle", "", ("moves left",), (0.8, 0.5), phase=0.0)
    score = alignment(clips_of([Scene((item,), "black", 0)])[0], caption)
    assert {name for name in ("color", "shape", "motion", "count") if getattr(score, name) < 1} == set(lost)


@pytest.mark.parametrize("background", ["black", "gray", "striped", "checkered", "noisy"])
def test_an_empty_background_shows_nothing(background: str) -> None:
    far_off = SceneObject("red", "circle", "small", ("stands still",), (-5.0, -5.0), phase=0.0)
    clip = clips_of([Scene((far_off,), background, 5)])[0]
    assert detect(clip) == ()
    assert alignment(clip, "a red circle stands still") == AlignmentScore(0.0, 0.0, 0.0, 0.0)


def test_captions_are_parsed_back() -> None:
    for seed in range(200):
        scene = sample_scene(seed)
        asked = tuple(Expected(item.color, item.shape, item.motions) for item in scene.objects)
        assert parse_caption(scene.caption) == asked
    assert parse_caption("A Red circle, on black") == (Expected("red", "circle", ()),)


@pytest.mark.parametrize("caption", ["", "a calm lake", "a circle moves left", "x" * 10_000])
def test_captions_without_a_known_object_are_refused(caption: str) -> None:
    with pytest.raises(ValueError, match="names no object"):
        parse_caption(caption)


def test_open_motions_are_not_judged() -> None:
    seen = (Detected("red", "circle", ("grows",)),)
    assert compare(seen, (Expected("red", "circle", ()),)).motion == 1.0
    with pytest.raises(ValueError, match="nothing was asked"):
        compare(seen, ())


@pytest.mark.parametrize("shape", [(17, 3, 64, 64), (3, 17, 64, 64), (64, 64, 3), (0, 64, 64, 3)])
def test_other_layouts_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frames, height, width, 3"):
        detect(torch.zeros(shape))


def test_short_and_large_clips_are_taken() -> None:
    item = SceneObject("cyan", "square", "", ("moves down",), (0.5, 0.2), phase=0.0)
    clip = (render([Scene((item,), "gray", 0)], num_frames=5, size=96)[0] / 2 + 0.5).permute(1, 2, 3, 0)
    assert detect(clip.numpy()) == (Detected("cyan", "square", ("moves down",)),)
    assert detect(clip[:1])[0].motions == ("stands still",)

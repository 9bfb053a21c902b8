"""File names from any prompt, and clips that can be watched."""

from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tadp.report.clips import enlarge, to_bytes, write_clip
from tadp.report.files import MAX_SLUG, policy_slug, slug, unique_slugs


# Few letters, so that names collide often; dashes, digits, accents and scripts without ASCII letters among them.
@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="aB2 -.é猫\n/", max_size=6), max_size=6))
def test_every_list_of_prompts_gets_different_portable_names(prompts: list[str]) -> None:
    names = unique_slugs(prompts)
    assert len(set(names)) == len(prompts)
    for name in names:
        assert name
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red circle, moves left!", "a-red-circle-moves-left"),
        ("Café à la crème", "cafe-a-la-creme"),
        ("...", "prompt"),
        ("一只猫", "prompt"),
        ("../../etc/passwd", "etc-passwd"),
    ],
)
def test_names_read_like_their_prompts(prompt: str, name: str) -> None:
    assert slug(prompt) == name


def test_a_long_prompt_is_cut_at_a_word() -> None:
    name = slug("a red circle " * 800)
    assert len(name) <= MAX_SLUG
    assert name.split("-")[-1] in {"a", "red", "circle"}
    assert len(slug("x" * 10_000)) == MAX_SLUG


def test_a_number_already_taken_is_passed_over() -> None:
    assert unique_slugs(["a", "a 2", "a"]) == ["a", "a-2", "a-3"]


def test_policies_in_file_names() -> None:
    assert policy_slug("static:8+attention") == "static-8-attention"


def test_small_clips_are_enlarged_by_whole_pixels() -> None:
    pixels = np.arange(2 * 64 * 48 * 3, dtype=np.uint8).reshape(2, 64, 48, 3)
    large = enlarge(pixels)
    assert large.shape == (2, 64 * 6, 48 * 6, 3)
    assert np.array_equal(large[:, ::6, ::6], pixels)
    assert np.array_equal(large[:, 5::6, 5::6], pixels)
    assert enlarge(large) is large


@pytest.mark.spawns
def test_a_clip_can_be_read_back(tmp_path: Path) -> None:
    clip = np.zeros((5, 16, 32, 3), np.float32)
    clip[..., 0] = 1.0
    files = write_clip(tmp_path, "red", clip, fps=8)
    assert files == {"mp4": "red.mp4", "gif": "red.gif"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["red.gif", "red.mp4"]
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "red.mp4"))
    assert next(reader)["size"] == (512, 256)
    frames = [np.frombuffer(frame, np.uint8).reshape(256, 512, 3) for frame in reader]
    assert len(frames) == 5
    assert frames[0][..., 0].min() > 230  # the encoder is lossy
    assert frames[0][..., 1:].max() < 25
    with Image.open(tmp_path / "red.gif") as gif:
        assert gif.size == (480, 240)


def test_one_frame_is_a_picture(tmp_path: Path) -> None:
    assert write_clip(tmp_path, "still", np.zeros((1, 300, 300, 3)), fps=8) == {"png": "still.png"}


def test_frames_that_are_not_finite_become_black_with_one_warning() -> None:
    clip = np.ones((3, 2, 2, 3))
    clip[1, 0, 0, 0] = np.nan
    with pytest.warns(UserWarning, match="1 of 3 frames hold NaN") as caught:
        pixels = to_bytes(clip)
    assert len(caught) == 1
    assert pixels[1].max() == 0
    assert pixels[[0, 2]].min() == 255


@pytest.mark.parametrize("shape", [(16, 16, 3), (0, 16, 16, 3), (2, 16, 16, 4)])
def test_a_clip_of_a_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must have shape"):
        to_bytes(np.zeros(shape))

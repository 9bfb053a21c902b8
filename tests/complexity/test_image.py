import gc
import time
import weakref
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from tadp.complexity import image
from tadp.complexity.image import ImageScore, score
from tadp.complexity.pixels import LONGEST_SIDE, shrunk

PARTS = ("edges", "texture", "color", "total")


def _values(found: ImageScore) -> tuple[float, ...]:
    return tuple(getattr(found, part) for part in PARTS)


def _scene(height: int = 360, width: int = 640, shapes: int = 12, seed: int = 0) -> np.ndarray:
    """Shapes of all colours over a gradient, smooth at every resolution: the same seed is the same picture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    y, x = (y + 0.5) / height, (x + 0.5) / width
    picture = np.stack([0.3 + 0.4 * x, 0.2 + 0.5 * y, 0.6 - 0.3 * x * y], axis=2)
    for _ in range(shapes):
        (cx, cy), radius, color = rng.random(2), rng.uniform(0.03, 0.12), rng.random(3)
        cover = np.clip((radius - np.hypot(x - cx, (y - cy) * height / width)) * width + 0.5, 0, 1)[..., None]
        picture = picture * (1 - cover) + color * cover
    return np.rint(picture * 255).astype(np.uint8)


def _noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _gradient() -> np.ndarray:
    return np.repeat(np.tile(np.linspace(0, 255, 320).astype(np.uint8), (240, 1))[..., None], 3, axis=2)


def _checkerboard(square: int = 20) -> np.ndarray:
    y, x = np.mgrid[0:240, 0:320]
    return np.repeat(((x // square + y // square) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)


pictures = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from((1, 3, 4))),
    elements=st.integers(0, 255),
    fill=st.integers(0, 255),
)


@settings(deadline=None)
@given(pictures)
def test_any_picture_stays_within_bounds(picture: np.ndarray) -> None:
    found = score(picture)
    assert all(0.0 <= value <= 1.0 for value in _values(found))
    assert found.total == pytest.approx((found.edges + found.texture + found.color) / 3)


@settings(deadline=None)
@given(pictures)
def test_a_picture_has_one_score(picture: np.ndarray) -> None:
    first = score(picture)
    image._cache.clear()
    assert score(picture.copy()) == first


@settings(deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(1, 400), st.integers(1, 400))
def test_one_color_scores_nothing(color: tuple[int, int, int], height: int, width: int) -> None:
    assert _values(score(np.full((height, width, 3), color, dtype=np.uint8))) == (0, 0, 0, 0)


@settings(deadline=None)
@given(pictures.filter(lambda picture: picture.shape[2] == 3))
def test_mirroring_changes_nothing(picture: np.ndarray) -> None:
    found = _values(score(picture))
    assert _values(score(picture[:, ::-1])) == pytest.approx(found, abs=1e-6)
    assert _values(score(picture[::-1])) == pytest.approx(found, abs=1e-6)


@pytest.mark.parametrize("shape", [(64, 64, 3), (144, 256), (720, 1280), (720, 1280, 3)], ids=str)
def test_noise_is_nearly_all_texture(shape: tuple[int, ...]) -> None:
    assert score(_noise(*shape)).texture > 0.94


def test_faint_noise_is_no_texture() -> None:
    assert score(np.uint8(100) + _noise(200, 200) % np.uint8(5)).texture == 0.0


def test_a_checkerboard_has_more_edges_than_a_gradient() -> None:
    assert score(_gradient()).edges == 0.0
    assert score(_checkerboard()).edges > 0.7
    assert score(_checkerboard(10)).edges > score(_checkerboard(20)).edges > score(_checkerboard(60)).edges


def test_an_outline_counts_its_length() -> None:
    """One line across a picture of 4:3 with 256 pixels along its width: 192 pixels over sqrt(256 * 192) sides."""
    halves = np.zeros((192, 256), dtype=np.uint8)
    halves[:, 128:] = 255
    assert score(halves).edges == pytest.approx(1 - np.exp(-np.sqrt(0.75) / 20))


def test_colors_of_equal_lightness_have_an_outline() -> None:
    halves = np.full((100, 100, 3), (255, 0, 0), dtype=np.uint8)
    halves[:, 50:] = (0, 130, 0)
    assert score(halves).edges > 0.04


@pytest.mark.parametrize("few", [1, 2, 5, 20])
def test_more_colors_score_more(few: int) -> None:
    bands = [np.linspace(0, 255, count * 3).reshape(count, 3).astype(np.uint8) for count in (few, few + 3)]
    less, more = (np.repeat(np.resize(colors, (60, 3))[None], 60, axis=0) for colors in bands)
    assert score(more).color >= score(less).color


def test_all_greys_have_a_third_of_the_color() -> None:
    greys = np.repeat(np.linspace(18, 237, 7).astype(np.uint8)[None], 7, axis=0)
    assert score(greys).color == pytest.approx(1 / 3, abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(2, 16))
def test_shapes_beside_each_other_only_add_edges(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    picture = np.zeros((256, 256, 3), dtype=np.uint8)
    before = score(picture)
    for cell in rng.permutation(16)[:count]:
        row, column = divmod(int(cell), 4)
        center = (column * 64 + 32, row * 64 + 32)
        color = [int(value) for value in rng.integers(60, 256, 3)]
        cv2.circle(picture, center, int(rng.integers(5, 28)), color, thickness=-1)
        after = score(picture)
        assert after.edges > before.edges
        before = after


def test_a_busy_scene_scores_above_a_simple_one() -> None:
    simple, busy = score(_scene(shapes=1)), score(_scene(shapes=30))
    assert busy.edges > simple.edges + 0.1
    assert busy.color > simple.color
    assert busy.total > simple.total + 0.05


@pytest.mark.parametrize(
    "size", [(360, 640), (480, 854), (720, 1280), (721, 1283), (1080, 1920), (2160, 3840)], ids=str
)
def test_the_score_hardly_depends_on_the_resolution(size: tuple[int, int]) -> None:
    assert _values(score(_scene(*size))) == pytest.approx(_values(score(_scene(432, 768))), abs=0.02)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.5, 3])
def test_resizing_with_another_filter_hardly_changes_the_score(factor: float) -> None:
    picture = Image.fromarray(_scene(720, 1280, 40))
    other = picture.resize((round(1280 * factor), round(720 * factor)), Image.Resampling.BICUBIC)
    assert _values(score(other)) == pytest.approx(_values(score(picture)), abs=0.03)


RGB = _scene()
GREY = np.array(Image.fromarray(RGB).convert("L"))
UNIT = (RGB / 255).astype(np.float32)
PLANES = torch.from_numpy(UNIT).permute(2, 0, 1).contiguous()
COLORED: dict[str, Callable[[], object]] = {
    "PIL": lambda: Image.fromarray(RGB),
    "PIL RGBA": lambda: Image.fromarray(RGB).convert("RGBA"),
    "PIL RGBa": lambda: Image.fromarray(RGB).convert("RGBA").convert("RGBa"),
    "PIL CMYK": lambda: Image.fromarray(RGB).convert("CMYK"),
    "uint16": lambda: RGB.astype(np.uint16) * 257,
    "float16": lambda: UNIT.astype(np.float16),
    "float32": lambda: UNIT,
    "float64": lambda: RGB / 255,
    "in [-1, 1]": lambda: UNIT * 2 - 1,
    "opaque": lambda: np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)]),
    "opaque floats": lambda: np.dstack([UNIT, np.ones(RGB.shape[:2], np.float32)]),
    "batch of one": lambda: RGB[None],
    "not contiguous": lambda: np.asfortranarray(RGB),
    "backwards": lambda: RGB[::-1, ::-1],
    "tensor": lambda: PLANES,
    "tensor in [-1, 1]": lambda: PLANES * 2 - 1,
    "tensor, batch of one": lambda: PLANES[None],
    "tensor, channels last": lambda: PLANES.permute(1, 2, 0),
    "tensor of bytes": lambda: torch.from_numpy(RGB).permute(2, 0, 1),
    "tensor of 16 bits": lambda: torch.from_numpy(RGB.astype(np.uint16) * 257),
    "tensor with gradient": lambda: PLANES.clone().requires_grad_(),
    "half": lambda: PLANES.half(),
    "bfloat16": lambda: PLANES.bfloat16(),
}
GREYS: dict[str, Callable[[], object]] = {
    "L": lambda: Image.fromarray(GREY),
    "LA": lambda: Image.fromarray(GREY).convert("LA"),
    "La": lambda: Image.fromarray(GREY).convert("LA").convert("La"),
    "P": lambda: Image.fromarray(GREY).convert("P"),
    "I": lambda: Image.fromarray(GREY.astype(np.int32)),
    "I of 16 bits": lambda: Image.fromarray(GREY.astype(np.int32) * 257),
    "I;16": lambda: Image.fromarray(GREY.astype(np.uint16) * 257),
    "F": lambda: Image.fromarray(GREY.astype(np.float32)),
    "F to 1": lambda: Image.fromarray(GREY.astype(np.float32) / 255),
    "RGB": lambda: Image.fromarray(GREY).convert("RGB"),
    "one channel": lambda: GREY[..., None],
    "three channels": lambda: np.repeat(GREY[..., None], 3, axis=2),
    "tensor": lambda: torch.from_numpy(GREY),
    "tensor (1, height, width)": lambda: torch.from_numpy(GREY)[None],
    "batch of one": lambda: torch.from_numpy(GREY)[None, None],
}


@pytest.mark.parametrize("kind", COLORED)
def test_every_form_of_a_picture_scores_alike(kind: str) -> None:
    # Half types round to 8 or 11 bits, and CMYK and premultiplied colours to 8 once more.
    assert _values(score(COLORED[kind]())) == pytest.approx(_values(score(RGB)), abs=0.02)


@pytest.mark.parametrize("kind", GREYS)
def test_every_form_of_a_grey_picture_scores_alike(kind: str) -> None:
    assert _values(score(GREYS[kind]())) == pytest.approx(_values(score(GREY)), abs=0.005)


def test_two_colored_images_are_read() -> None:
    bits = _checkerboard()[..., 0] > 0
    for form in (bits, torch.from_numpy(bits), Image.fromarray(bits)):
        assert score(form) == score(_checkerboard())


def test_palettes_are_read_with_their_colors_and_transparency() -> None:
    indexed = Image.fromarray(RGB).quantize(64)
    assert score(indexed) == score(indexed.convert("RGB"))
    cut = Image.new("P", (40, 40))
    cut.putpalette([255, 0, 0, 0, 255, 0])
    cut.info["transparency"] = 0
    assert _values(score(cut)) == (0, 0, 0, 0)
    assert (shrunk(cut) == 128).all()


def test_a_tensor_of_either_layout_is_read() -> None:
    """Channels come first wherever the first dimension can be channels."""
    ambiguous = torch.zeros(3, 8, 3)
    ambiguous[0] = 1
    assert shrunk(ambiguous).shape == (8, 3, 3)
    assert (shrunk(ambiguous) == (255, 0, 0)).all()
    assert shrunk(torch.zeros(8, 3, 3)).shape == (8, 3, 3)


@pytest.mark.parametrize("size", [8, 512])
def test_transparent_pixels_show_mid_grey_whatever_is_below(size: int) -> None:
    below = np.dstack([_noise(size, size, 3), np.zeros((size, size), np.uint8)])
    assert (shrunk(below) == 128).all()
    assert (shrunk(below.astype(np.float32) / 255) == 128).all()
    half = np.full((size, size, 4), (255, 0, 0, 128), np.uint8)
    assert (abs(shrunk(half).astype(int) - (192, 64, 64)) <= 1).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 1000), (1000, 1), (1, 1, 3), (1, 300, 4), (2, 100_000, 3)], ids=str)
def test_the_smallest_and_the_longest_images_work(shape: tuple[int, ...]) -> None:
    found = score(_noise(*shape))
    assert all(0.0 <= value <= 1.0 for value in _values(found))
    assert max(shrunk(_noise(*shape)).shape[:2]) <= LONGEST_SIDE


def test_floats_may_overshoot_a_little() -> None:
    sharpened = UNIT.copy()
    sharpened[10, 10] = (-0.05, 1.05, 0.5)
    assert _values(score(sharpened)) == pytest.approx(_values(score(UNIT)), abs=0.005)


@pytest.mark.parametrize(
    ("bad", "error", "way_out"),
    [
        (np.full((4, 4), np.nan), ValueError, "nan_to_num"),
        (np.full((4, 4), np.inf, np.float32), ValueError, "nan_to_num"),
        (torch.full((3, 4, 4), torch.nan), ValueError, "nan_to_num"),
        (np.full((4, 4, 3), 200.0), ValueError, "divide"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "at least one pixel"),
        (torch.zeros(3, 0, 4), ValueError, "at least one pixel"),
        (Image.new("RGB", (0, 4)), ValueError, "at least one pixel"),
        (np.zeros((3, 5, 8), np.uint8), ValueError, "transpose"),
        (np.zeros((2, 8, 8, 3), np.uint8), ValueError, "one by one"),
        (torch.zeros(2, 3, 8, 8), ValueError, "one by one"),
        (torch.zeros(16, 8, 8), ValueError, r"\(channels, height, width\)"),
        (np.zeros(5, np.uint8), ValueError, "height, width"),
        (np.zeros((4, 4), np.int64), TypeError, "convert it to uint8"),
        (torch.zeros(4, 4, dtype=torch.int32), TypeError, "convert it to uint8"),
        (np.zeros((4, 4), complex), TypeError, "convert it to uint8"),
        (Image.fromarray(np.full((4, 4), 70_000, np.int32)), ValueError, "16 bits"),
        (Image.fromarray(np.full((4, 4), np.nan, np.float32)), ValueError, "nan_to_num"),
        ("frame.png", TypeError, "PIL.Image.open"),
        ([np.zeros((4, 4), np.uint8)], TypeError, "one by one"),
        (None, TypeError, "an image is"),
    ],
)
def test_what_cannot_be_scored_says_what_can(bad: object, error: type[Exception], way_out: str) -> None:
    with pytest.raises(error, match=way_out):
        score(bad)


def test_modes_that_pil_cannot_convert_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Image.Image, mode: str) -> Image.Image:
        raise ValueError("conversion not supported")

    monkeypatch.setattr(Image.Image, "convert", refuse)
    with pytest.raises(ValueError, match="ImageCms"):
        score(Image.new("LAB", (4, 4)))


def test_scores_are_cached_by_content_and_within_bounds() -> None:
    image._cache.clear()
    first = score(RGB)
    assert score(Image.fromarray(RGB.copy())) is first
    for value in range(image.CACHE_SIZE + 10):
        score(np.full((1, 1, 3), (value % 256, value // 256, 0), np.uint8))
    assert len(image._cache) == image.CACHE_SIZE
    again = score(RGB)
    assert again == first
    assert again is not first


def test_equal_bytes_of_another_shape_are_another_picture() -> None:
    assert score(GREY[:100, :200]) != score(GREY[:100, :200].reshape(200, 100))


def test_the_cache_keeps_no_picture_alive() -> None:
    picture = _noise(300, 300, 3)
    gone = weakref.ref(picture)
    score(picture)
    del picture
    gc.collect()
    assert gone() is None


def test_scoring_leaves_the_picture_alone() -> None:
    for picture in (RGB.copy(), UNIT.copy(), PLANES.numpy().copy()):
        before = picture.copy()
        score(picture if picture.shape[2] == 3 else torch.from_numpy(picture))
        assert np.array_equal(picture, before)
    frozen = RGB.copy()
    frozen.setflags(write=False)
    assert score(frozen) == score(RGB)


def test_several_images_count_as_their_mean() -> None:
    mean = (score(RGB).total + score(GREY).total) / 2
    assert image.mean_total([RGB, Image.fromarray(GREY)]) == pytest.approx(mean)
    assert image.mean_total(RGB) == score(RGB).total
    batch = torch.stack([PLANES, PLANES.flip(-1)])
    assert image.mean_total(batch) == pytest.approx(score(PLANES).total, abs=1e-3)
    with pytest.raises(ValueError, match="empty list"):
        image.mean_total([])


def test_an_image_of_1280x720_takes_milliseconds() -> None:
    """A generous bound, for machines that do other things; bench/quality/scoring.py prints the figure."""
    took = []
    for seed in range(5):
        picture = _scene(720, 1280, 3, seed)
        start = time.thread_time()
        score(picture)
        took.append(time.thread_time() - start)
    assert min(took) < 50e-3

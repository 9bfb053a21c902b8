"""`tadp calibrate` and `tadp curve`, with everything that takes time replaced."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tadp.cli import main
from tadp.commands import calibrate
from tadp.demo import CALIBRATION_PROMPTS
from tadp.files.automatic import cached
from tadp.files.calibration import load, save
from tests.calibrations import FOUND


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What the calibration was asked for."""
    monkeypatch.setenv("TADP_CACHE_DIR", str(tmp_path / "cache"))
    asked: dict[str, Any] = {}
    transformer = torch.nn.Module()
    pipeline = SimpleNamespace(
        components={"transformer": transformer, "transformer_2": None},
        transformer=transformer,
        set_progress_bar_config=lambda disable: None,
    )

    def prepare(_: Any, prompts: tuple[str, ...], arguments: Any, *rest: Any, **options: Any) -> Any:
        asked.update(prompts=prompts, arguments=arguments, **options)
        return SimpleNamespace()

    def run(subject: Any, prompts: tuple[str, ...], work: Path, tell: Callable[[str], object], *, roles: bool) -> Any:
        asked.update(work=work, roles=roles)
        tell("takes up to 40 minutes")
        if "interrupted" in prompts:
            raise KeyboardInterrupt
        if len(prompts) < 8:
            raise ValueError("a score is fitted to 8 contents or more, got 1")
        return FOUND

    monkeypatch.setattr(calibrate, "load_pipeline", lambda settings: pipeline)
    monkeypatch.setattr(calibrate, "call_arguments", lambda pipeline, settings: {"num_frames": 17})
    monkeypatch.setattr(calibrate, "prepare", prepare)
    monkeypatch.setattr(calibrate, "calibrate", run)
    asked["pipeline"] = pipeline
    return asked


def test_the_embedded_model_is_calibrated_on_prompts_of_its_own(asked: dict[str, Any], tmp_path: Path) -> None:
    assert main(["calibrate", "--out", str(tmp_path), "--seed", "5"]) == 0
    assert list(asked["prompts"]) == CALIBRATION_PROMPTS.read_text().splitlines()
    assert asked["seed"] == 5
    assert load(tmp_path / "calibration.json") == load(cached("abc")) == FOUND
    assert asked["work"] == tmp_path / "calibration.work"
    assert not asked["roles"]
    main(["calibrate", "--out", str(tmp_path), "--roles"])
    assert asked["roles"]


def test_what_was_found_is_printed(asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["calibrate", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    for text in ("text.entity", "static:8", "left out of the fit", "gradient estimate", "takes up to 40"):
        assert text in printed


def test_other_models_need_prompts(asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "some/model", "--out", str(tmp_path)]) == 2
    assert "--prompts FILE" in capsys.readouterr().err
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(f"a cat and {index} dogs" for index in range(8)))
    assert main(["calibrate", "some/model", "--prompts", str(prompts), "--out", str(tmp_path)]) == 0
    assert len(asked["prompts"]) == 8


def test_too_few_prompts_are_an_error_and_an_interrupt_is_none(
    asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat")
    assert main(["calibrate", "--prompts", str(prompts), "--out", str(tmp_path)]) == 2
    assert "8 contents or more" in capsys.readouterr().err
    prompts.write_text("interrupted")
    assert main(["calibrate", "--prompts", str(prompts), "--out", str(tmp_path)]) == 130


def test_pipelines_of_two_transformers_are_refused(
    asked: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked["pipeline"].components["transformer_2"] = torch.nn.Module()
    assert main(["calibrate", "--out", str(tmp_path)]) == 2
    assert "transformer, transformer_2" in capsys.readouterr().err


def test_a_curve_is_drawn_from_a_calibration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(FOUND, tmp_path / "calibration.json")
    assert main(["curve", str(tmp_path / "calibration.json"), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("simple", "medium", "complex"))
    assert (tmp_path / "curve.png").read_bytes()[:4] == b"\x89PNG"


def test_a_curve_needs_a_calibration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curve", str(tmp_path / "calibration.json")]) == 2
    assert "tadp calibrate" in capsys.readouterr().err

"""Calibrations that nobody names."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tadp.errors import CalibrationWarning
from tadp.files.automatic import cached, find_calibration, weight_directories
from tadp.files.calibration import save
from tests.calibrations import FOUND


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TADP_CACHE_DIR", str(tmp_path / "cache"))


def test_the_cache_comes_before_what_lies_beside_the_weights(tmp_path: Path) -> None:
    assert find_calibration("abc", [tmp_path]) is None
    save(replace(FOUND, samples=2), tmp_path / "tadp-calibration-float32.json")
    found = find_calibration("abc", [tmp_path / "nowhere", tmp_path])
    assert found is not None
    assert found.samples == 2
    save(FOUND, cached("abc"))
    assert find_calibration("abc", [tmp_path]) == FOUND


def test_calibrations_of_other_models_are_passed_over(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    save(replace(FOUND, key={**FOUND.key, "models": {"transformer": "other"}}), tmp_path / "tadp-calibration-a.json")
    save(FOUND, tmp_path / "tadp-calibration-b.json")
    assert find_calibration("abc", [tmp_path]) == FOUND
    assert find_calibration("abd", [tmp_path]) is None
    assert not recwarn.list


@pytest.mark.parametrize("text", ["", "[]", '{"key": 3}', '{"key": {"models": []}}'])
def test_files_that_say_no_model_are_warned_of(tmp_path: Path, text: str) -> None:
    save(FOUND, tmp_path / "tadp-calibration-b.json")
    for path in (tmp_path / "tadp-calibration-a.json", cached("abc")):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        with pytest.warns(CalibrationWarning, match=f"{path.name} is not used"):
            assert find_calibration("abc", [tmp_path]) == FOUND


def test_a_calibration_of_this_model_that_cannot_be_used_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "tadp-calibration.json"
    save(replace(FOUND, key={**FOUND.key, "versions": {"tadp": "0.0.1"}}), path)
    with pytest.warns(CalibrationWarning, match=r"tadp-calibration.json is not used: .*tadp 0\.0\.1: calibrate again"):
        assert find_calibration("abc", [tmp_path]) is None
    save(FOUND, path)
    path.write_text(path.read_text().replace("0.75", "0.76"))
    with pytest.warns(CalibrationWarning, match="checksum"):
        assert find_calibration("abc", [tmp_path]) is None


def test_models_know_where_they_were_loaded_from(tmp_path: Path) -> None:
    model = torch.nn.Module()
    assert weight_directories(model) == ()
    model.config = SimpleNamespace(_name_or_path="some/model")
    assert weight_directories(model) == ()
    own = tmp_path / "transformer"
    own.mkdir()
    model.config = SimpleNamespace(_name_or_path=str(own))
    assert weight_directories(model) == (own,)
    (tmp_path / "model_index.json").write_text("{}")
    assert weight_directories(model) == (own, tmp_path)

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from tadp.calibration.key import calibration_key
from tadp.calibration.result import Calibration, RoleSensitivity, load, save, save_peaks
from tadp.calibration.table import Line, Row
from tadp.complexity.score import FeatureRange, ScoreWeights
from tadp.precision import L8, Role
from tests.policy.costs_of import made_up_costs

FOUND = Calibration(
    key=calibration_key({"transformer": "abc"}, {"num_frames": 17}),
    ranges={"text.entity": FeatureRange(0.1, 0.8, weight=0.3), "entropy": FeatureRange(0.7, 0.8, weight=-0.7)},
    weights=ScoreWeights(0.3, 0.0, 0.7),
    correlations={"text.entity": 0.8, "entropy": -0.7, "skewness": 0.0},
    left_out=0.75,
    costs=made_up_costs(),
    table=(Row("static:8", Line(-5.0, 2.0, 0.3), 6.5, 3000),),
    sensitivity=(
        RoleSensitivity("blocks.0", Role.FFN_UP, L8, "visual", 1e-4, 1e-4, 2e-4),
        RoleSensitivity("blocks.0", Role.ATTENTION, L8, "temporal", 1e-4, 2e-4),
    ),
    samples=32,
    bias={"static:8": -0.5},
)


def test_a_calibration_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "calibration.json"
    save(FOUND, path)
    assert load(path) == FOUND
    assert [entry.name for entry in path.parent.iterdir()] == ["calibration.json"]


def test_it_holds_for_its_model_only() -> None:
    FOUND.check("abc")
    with pytest.raises(ValueError, match=r"another model.*tadp calibrate"):
        FOUND.check("abd")


def test_it_holds_for_its_versions_only() -> None:
    old = replace(FOUND, key={**FOUND.key, "versions": {"tadp": "0.0.1", "torch": "2.0"}})
    with pytest.raises(ValueError, match=r"tadp 0\.0\.1, torch 2\.0: calibrate again"):
        old.check("abc")


def test_a_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no calibration .*tadp calibrate"):
        load(tmp_path / "calibration.json")


def _without(content: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key != name}


@pytest.mark.parametrize("part", ["ranges", "weights", "costs", "table", "sensitivity", "samples", "bias"])
def test_a_file_that_lacks_a_part_is_refused(tmp_path: Path, part: str) -> None:
    path = tmp_path / "calibration.json"
    save(FOUND, path)
    path.write_text(json.dumps(_without(json.loads(path.read_text()), part)))
    with pytest.raises(ValueError, match=r"is damaged .*calibrate again"):
        load(path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 99}', "null"])
def test_what_is_no_calibration_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="calibrate again"):
        load(path)


def test_levels_and_roles_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    save(FOUND, path)
    for old, new in (('"8+attention:8"', '"7"'), ('"ffn.up"', '"ffn.sideways"')):
        path.write_text(path.read_text().replace(old, new))
        with pytest.raises(ValueError, match="is damaged"):
            load(path)
        save(FOUND, path)


def test_peaks_are_written_with_their_stages(tmp_path: Path) -> None:
    path = tmp_path / "calibration.safetensors"
    save_peaks({"blocks.0.ffn": torch.ones(4, 8)}, (0.9, 0.8, 0.5), path)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["stages"]) == [0.9, 0.8, 0.5]
        assert file.get_tensor("blocks.0.ffn").shape == (4, 8)

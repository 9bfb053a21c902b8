import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tadp.calibration.table import Line, Row
from tadp.complexity.score import FeatureRange, ScoreWeights
from tadp.files.calibration import Calibration, RoleSensitivity, load, save
from tadp.files.channels import path_beside, save_channels
from tadp.files.fingerprint import calibration_key
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


def test_widths_of_channels_come_back_from_the_file_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    widths = {"blocks.0.ffn": torch.tensor([[8, 8], [8, 6], [6, 4]], dtype=torch.uint8)}
    save(FOUND, path)
    save_channels(path_beside(path), FOUND.key, (0.9,), {"blocks.0.ffn": torch.ones(2, 8)}, widths)
    assert torch.equal(load(path).channel_widths["blocks.0.ffn"], widths["blocks.0.ffn"])


def test_a_damaged_or_foreign_file_beside_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    save(FOUND, path)
    save_channels(path_beside(path), {**FOUND.key, "call": {}}, (0.9,), {}, {})
    with pytest.raises(ValueError, match=r"not of this calibration.*tadp calibrate"):
        load(path)
    path_beside(path).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"damaged.*tadp calibrate"):
        load(path)

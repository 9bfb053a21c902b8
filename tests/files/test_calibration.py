import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tadp.files.calibration import load, save
from tadp.files.channels import path_beside, save_channels
from tests.calibrations import FOUND


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

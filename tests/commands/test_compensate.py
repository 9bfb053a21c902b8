"""`tadp compensate` on a pipeline of a tiny transformer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel

from tadp.cli import main
from tadp.commands import compensate
from tadp.commands.compensate import DIRECTORY
from tadp.compiler.layers import block_linears
from tadp.demo import CALIBRATION_PROMPTS
from tadp.files.codes import CodesDirectory
from tadp.files.fingerprint import fingerprint
from tests.models import tiny_inputs, tiny_transformer


class Pipeline:
    """Calls its transformer in three steps."""

    def __init__(self) -> None:
        self.transformer = tiny_transformer(2, torch.float32)
        self.components: dict[str, Any] = {"transformer": self.transformer}
        self.prompts: list[str] = []

    def set_progress_bar_config(self, disable: bool) -> None:
        pass

    @torch.no_grad()
    def __call__(self, prompt: str, **arguments: Any) -> None:
        self.prompts.append(prompt)
        for timestep in (1000.0, 500.0, 100.0):
            self.transformer(**tiny_inputs(dtype=torch.float32, timestep=timestep, seed=len(self.prompts)))


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    fake = Pipeline()
    monkeypatch.setattr(compensate, "load_pipeline", lambda settings: fake)
    monkeypatch.setattr(compensate, "call_arguments", lambda pipeline, settings: {"num_frames": 3})
    return fake


def _check(directory: Path, model: WanTransformer3DModel) -> None:
    weights = {linear.layer: linear.module.weight for linear in block_linears(model)}
    found = CodesDirectory.load(directory)
    found.check(fingerprint(model), weights)
    assert all(found.of(layer) is not None for layer in weights)


def test_codes_of_all_layers_are_written(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compensate", "--device", "cpu", "--out", str(tmp_path), "--group-size", "64"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "codes of 20 layers" in printed
    assert "--codes" in printed
    _check(tmp_path / DIRECTORY, pipeline.transformer)
    assert CodesDirectory.load(tmp_path / DIRECTORY).header.group_size == 64
    known = CALIBRATION_PROMPTS.read_text().splitlines()
    assert len(pipeline.prompts) == 4
    assert set(pipeline.prompts) <= set(known)


def test_an_interrupted_run_goes_on_and_a_finished_one_does_nothing(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compensate", "--device", "cpu", "--out", str(tmp_path)]
    main(arguments)
    (tmp_path / DIRECTORY / "blocks.1.safetensors").unlink()
    main(arguments)
    assert "1 of 2 blocks are there already" in capsys.readouterr().out
    _check(tmp_path / DIRECTORY, pipeline.transformer)
    pipeline.prompts.clear()
    assert main(arguments) == 0
    assert pipeline.prompts == []


def test_what_cannot_be_used_is_an_error(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compensate", "some/model", "--out", str(tmp_path)]) == 2
    assert "--prompts FILE" in capsys.readouterr().err
    main(["compensate", "--device", "cpu", "--out", str(tmp_path)])
    assert main(["compensate", "--device", "cpu", "--out", str(tmp_path), "--seed", "7"]) == 2
    assert "another run (data differ)" in capsys.readouterr().err
    pipeline.components["transformer_2"] = pipeline.transformer
    assert main(["compensate", "--device", "cpu", "--out", str(tmp_path)]) == 2
    assert "transformer, transformer_2" in capsys.readouterr().err

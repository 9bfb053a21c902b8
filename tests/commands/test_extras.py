"""What the command line says where a package is missing."""

from pathlib import Path

import pytest

from tadp.cli import main
from tadp.errors import MissingExtraWarning
from tests.fakes import FakePipeline
from tests.hiding import hide


def test_the_command_line_prints_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hide(monkeypatch, "yaml")
    assert main(["generate", "a star", "--config", str(tmp_path / "tadp.yaml")]) == 2
    error = capsys.readouterr().err
    assert error == "tadp generate: error: configuration files need PyYAML: pip install 'tadp[cli]'\n"


@pytest.mark.parametrize("package", ["imageio_ffmpeg", "matplotlib", "rich", "torchmetrics"])
def test_nothing_is_generated_that_could_not_be_written(
    monkeypatch: pytest.MonkeyPatch,
    pipeline: FakePipeline,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    package: str,
) -> None:
    hide(monkeypatch, package)
    assert main(["generate", "a star", "--out", str(tmp_path), "--compare", "static:16"]) == 2
    assert "pip install 'tadp[" in capsys.readouterr().err
    assert pipeline.calls == []


@pytest.mark.usefixtures("no_pictures")
def test_without_dictionaries_clips_are_generated_and_the_report_has_no_text_score(
    monkeypatch: pytest.MonkeyPatch, pipeline: FakePipeline, tmp_path: Path
) -> None:
    hide(monkeypatch, "lemminflect")
    with pytest.warns(MissingExtraWarning):
        assert main(["generate", "a star", "--out", str(tmp_path)]) == 0
    assert '"text": null' in (tmp_path / "report.json").read_text()

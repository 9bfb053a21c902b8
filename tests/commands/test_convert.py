"""`tadp convert`: its table, its messages and its help."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tadp.cli import main
from tests.files.foreign.checkpoints import heavy
from tests.models import tiny_transformer


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tiny_transformer(2).save_pretrained(tmp_path / "source")
    return tmp_path / "source"


def test_prints_what_is_exact_and_what_is_rounded(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    comfy = tmp_path / "x.safetensors"
    assert main(["convert", str(source), str(comfy), "--to", "comfyui", "--verify"]) == 0
    printed = capsys.readouterr().out
    assert "diffusers to comfyui" in printed
    assert "128 of 128" in printed
    assert "20 were rounded" in printed
    assert "verified:" in printed
    assert main(["convert", str(comfy), str(tmp_path / "out"), "--config", str(source), "--verify"]) == 0
    printed = capsys.readouterr().out
    assert "comfyui to tadp" in printed
    assert "8-bit planes" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "diffusion_pytorch_model.safetensors",
        "tadp.json",
    ]


def test_a_dry_run_writes_nothing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(source), str(tmp_path / "out"), "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_names_files_and_types_are_as_asked(tmp_path: Path) -> None:
    save_file({"blocks.0.a.weight": heavy(8, 64), "b": torch.ones(3)}, tmp_path / "x.safetensors")
    out = tmp_path / "out"
    arguments = ["--to", "diffusers", "--dtype", "float16", "--max-shard-size", "1KB"]
    assert main(["convert", str(tmp_path / "x.safetensors"), str(out), *arguments]) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "diffusion_pytorch_model-00001-of-00002.safetensors",
        "diffusion_pytorch_model-00002-of-00002.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
    ]
    for path in out.glob("*.safetensors"):
        assert {tensor.dtype for tensor in load_file(path).values()} == {torch.float16}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone", "out"], "gone does not exist"),
        (["SOURCE", "out", "--verify", "--dry-run"], "leave one out"),
        (["SOURCE", "out", "--to", "comfyui"], "ends with .safetensors"),
        (["SOURCE", "out", "--config", "gone.json"], "gone.json is missing"),
        (["SOURCE", "out", "--max-shard-size", "x"], "max_shard_size"),
    ],
)
def test_errors_are_one_line(
    source: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(source) if argument == "SOURCE" else argument for argument in arguments]
    assert main(["convert", *given]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("tadp convert: error: ")
    assert message in error


def test_help_says_what_is_read_and_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    printed = capsys.readouterr().out
    for word in ("ComfyUI", "TurboDiffusion", "GGUF", "torchao", "--verify", "examples:"):
        assert word in printed

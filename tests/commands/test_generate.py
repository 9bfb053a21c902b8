"""`tadp generate` and `tadp explain` from the command line to the files, with a pipeline that takes no time."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tadp.cli import main
from tadp.commands.generate import StepTimer
from tests.fakes import BLOCKS, FakePipeline


def read_report(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / "report.json").read_text(encoding="utf-8")))


@pytest.mark.spawns
def test_a_prompt_becomes_clip_plan_report_and_table(
    pipeline: FakePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare = ["--compare", "static:16,static:8", "--steps", "4"]
    code = main(["generate", "a red circle moves left", "--out", str(tmp_path), *compare])
    assert code == 0
    names = {path.name for path in tmp_path.iterdir()}
    stem = "a-red-circle-moves-left"
    for name in (stem, f"{stem}.static-16", f"{stem}.static-8"):
        assert {f"{name}.mp4", f"{name}.gif", f"{name}.plan.png"} <= names
    assert len(names) == 10  # and report.json; nothing temporary is left
    with Image.open(tmp_path / f"{stem}.plan.png") as picture:
        assert picture.width > 1000

    report = read_report(tmp_path)
    assert report["schema_version"] == 1
    assert report["complete"] is True
    assert report["policies"] == ["complexity", "static:16", "static:8"]
    assert {"python", "torch", "diffusers"} <= set(report["versions"])
    (entry,) = report["prompts"]
    assert entry["prompt"] == "a red circle moves left"
    assert {"entity", "spatial", "temporal", "total", "evidence"} <= set(entry["text"])
    chosen, baseline, static = entry["runs"]
    assert chosen["score"]["total"] == 0.4
    assert chosen["plan"]["blocks.1"] == {"default": "16", "overrides": {}, "reuse": "reuse:0"}
    assert list(chosen["plan"]) == list(BLOCKS)
    assert static["weight_bytes"] == 1000
    first = chosen["history"][0]
    assert (first["step"], first["branch"], first["phase"]) == (1, "cond", "probe")
    assert first["signals"]["blocks"][0]["kurtosis"]["ffn.down"] == [None]  # NaN has no place in JSON
    assert chosen["plans"][first["plan"]]["blocks.0"] == "16+reuse:0"
    # Both branches count: the steps take 0.02, 0.04, 0.06 and 0.08 s.
    assert static["seconds_per_step"] == pytest.approx(0.05)
    assert 30 < static["psnr"] < 60
    assert static["ssim"] > 0.9
    assert baseline["psnr"] is None

    printed = capsys.readouterr().out
    for word in ("complexity", "static:16", "static:8", "0.40", "1 kB", "PSNR"):
        assert word in printed


@pytest.mark.usefixtures("no_pictures")
def test_every_policy_starts_from_the_same_seed(pipeline: FakePipeline, tmp_path: Path) -> None:
    policies = ["--policy", "static:16", "--compare", "static:16,static:4"]
    main(["generate", "a star", "--out", str(tmp_path), "--seed", "7", *policies])
    assert pipeline.transformer.tadp.used == ["static:16", "static:16", "static:4"]  # compile, then one run for each
    (entry,) = read_report(tmp_path)["prompts"]
    assert entry["seed"] == 7
    assert entry["runs"][1]["psnr"] > 30  # different noise would give about 8


@pytest.mark.usefixtures("no_pictures")
def test_settings_reach_the_pipeline_and_yaml_gives_way(pipeline: FakePipeline, tmp_path: Path) -> None:
    config = tmp_path / "tadp.yaml"
    config.write_text("prompts: [a cyan star]\nmodel: owner/name\nsteps: 3\nheight: 32\npolicy: static:6\n")
    assert main(["generate", "--config", str(config), "--steps", "2", "--out", str(tmp_path / "out")]) == 0
    assert pipeline.calls == [{"prompt": "a cyan star", "steps": 2, "height": 32, "output_type": "np"}]
    assert read_report(tmp_path / "out")["policies"] == ["static:6"]


@pytest.mark.usefixtures("no_pictures")
def test_the_embedded_model_has_its_own_defaults(pipeline: FakePipeline, tmp_path: Path) -> None:
    main(["generate", "a star", "--out", str(tmp_path), "--policy", "static:8"])
    assert pipeline.calls[0]["steps"] == 20
    assert pipeline.calls[0]["height"] == 64
    assert read_report(tmp_path)["model"]["arguments"]["guidance_scale"] == 4.0


@pytest.mark.spawns
def test_an_interrupted_run_keeps_finished_prompts(
    pipeline: FakePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.fail_on = "blue"
    code = main(["generate", "a red circle", "a blue star", "--out", str(tmp_path), "--policy", "static:8"])
    assert code == 130
    report = read_report(tmp_path)
    assert report["complete"] is False
    assert [entry["prompt"] for entry in report["prompts"]] == ["a red circle"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "a-red-circle.mp4",
        "a-red-circle.gif",
        "a-red-circle.plan.png",
        "report.json",
    }
    captured = capsys.readouterr()
    assert "1 of 2 prompts written" in captured.out
    assert "interrupted" in captured.err


@pytest.mark.usefixtures("no_pictures")
def test_a_prompt_of_10000_characters_is_generated_with_one_warning(pipeline: FakePipeline, tmp_path: Path) -> None:
    prompt = ("a red circle moves left, then right and " * 250)[:10_000]
    with pytest.warns(UserWarning, match="prompt 1 .*tokens; the model reads the first 64") as caught:
        assert main(["generate", prompt, "--out", str(tmp_path), "--policy", "static:8"]) == 0
    assert len([warning for warning in caught if "tokens" in str(warning.message)]) == 1
    assert read_report(tmp_path)["prompts"][0]["prompt"] == prompt


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no prompt given"),
        (["  "], "prompt 1 of 1 is empty"),
        (["a star", "--policy", "best"], "unknown policy 'best'; valid ones are"),
        (["a star", "--policy", "static:5"], "valid levels are 16, 8, 6, 4"),
        (["a star", "--compare", "static:16,static:99"], "valid levels are 16, 8, 6, 4"),
        (["a star", "--steps", "none"], "--steps: expected a whole number of at least 1, got 'none'"),
        (["a star", "--height", "20"], "divisible by 16 but are 20"),
        (["a star", "--config", "/nowhere.yaml"], "cannot read the configuration /nowhere.yaml"),
        (["a star", "--out", "/dev/null/out"], "--out: /dev/null/out cannot be made a directory"),
    ],
)
def test_bad_input_is_a_message_and_exit_code_2(
    pipeline: FakePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["generate", "--out", str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tadp generate: error: ")
    assert message in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_a_traceback_is_there_for_those_who_ask(pipeline: FakePipeline) -> None:
    with pytest.raises(ValueError, match="unknown policy"):
        main(["generate", "a star", "--policy", "best", "--traceback"])


def test_an_unknown_option_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["generate", "a star", "--colour", "red"])
    assert caught.value.code == 2
    assert "--colour" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["generate", "explain", "precompile"])
def test_help_names_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for flag in ("--policy", "--max-sequence-length", "--dtype", "--config"):
        assert flag in printed


def test_explain_prints_rows_totals_and_reasons(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--policy", "static:8"]) == 0
    printed = capsys.readouterr().out
    assert "transformer under static:8" in printed
    assert re.search(r"blocks\.0 .* 8 ", printed)
    assert "5 pieces of 3 structures" in printed
    assert "weights: 30 B at 8, 20 B at 16" in printed
    assert "2 layers: outside blocks" in printed
    assert pipeline.calls[0]["steps"] == 1
    assert pipeline.calls[0]["output_type"] == "latent"


def test_precompile_runs_one_step_and_says_where_variants_are(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["precompile", "--policy", "static:8", "--height", "32"]) == 0
    assert "static:8: 0 variants compiled" in capsys.readouterr().out
    assert pipeline.calls[0]["steps"] == 1
    assert pipeline.calls[0]["height"] == 32


def test_explain_prints_json(pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["policy"] == "complexity"
    assert [row["piece"] for row in printed["modules"]["transformer"]] == ["before", *BLOCKS, "after"]


def test_steps_are_timed_from_one_end_to_the_next() -> None:
    timer = StepTimer(torch.device("cpu"))
    assert timer.seconds == ()
    for step in range(3):
        assert timer(None, step, None, {}) == {}
    assert len(timer.seconds) == 2
    assert min(timer.seconds) >= 0

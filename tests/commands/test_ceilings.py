"""`tadp bench --explain`: what it prints, and what it refuses."""

import importlib.util
import json
import sys

import pytest

from tadp.cli import main
from tadp.commands import ceilings


def test_every_layer_and_width_of_every_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--explain", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 6 * 2 * 3 * 3
    assert {row["gpu"] for row in found} == {"A100", "RTX4090", "L40S", "H100", "B200", "RTX5090"}
    for row in found:
        assert row["compiled"] is None
        assert row["shares"][row["limit"]] == min(row["shares"].values())


def test_tables_of_some_gpus(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--explain", "--gpu", "H100, rtx-4090"]) == 0
    printed = capsys.readouterr().out
    assert "H100: ceilings of the product of codes, % of 1979 TOP/s" in printed
    assert "RTX4090" in printed
    assert "A100" not in printed
    assert "Wan-14B 5120 -> 13824" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--explain", "--gpu", "T4"], "--gpu: 'T4' is no GPU of the table; there are A100"),
        (["--gpu", "H100"], "--gpu and --compile are of --explain"),
        (["--compile"], "--gpu and --compile are of --explain"),
    ],
)
def test_refuses(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_compiling_needs_triton(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ceilings, "missing", lambda: "no triton here")
    assert main(["bench", "--explain", "--compile"]) == 2
    assert "--compile: no triton here" in capsys.readouterr().err


def test_needs_no_triton_for_ceilings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    assert main(["bench", "--explain", "--gpu", "A100", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


@pytest.mark.aot
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
def test_compiled_kernels_are_looked_at(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "MODELS", {"small": (256, 512)})
    assert main(["bench", "--explain", "--gpu", "H100", "--compile"]) == 0
    printed = capsys.readouterr().out
    assert "as compiled for sm_90" in printed
    assert "shared memory" not in printed  # weights come from registers
    monkeypatch.setattr(ceilings, "WIDTHS", (8,))
    assert main(["bench", "--explain", "--gpu", "H100", "--compile", "--json"]) == 0
    for row in json.loads(capsys.readouterr().out):
        assert row["compiled"]["registers"] <= 128
        assert row["programs_at_once"] == 1

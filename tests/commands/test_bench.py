"""`tadp bench`: which layers it measures, what it prints and what it keeps."""

import json

import pytest
import torch

from tadp.cli import main
from tadp.commands import bench
from tadp.kernels import table
from tests.fakes import FakePipeline

CPU = torch.device("cpu")


def test_measures_each_shape_of_the_blocks_once_at_every_level(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "--json", "--seconds", "0.001", "--device", "cpu"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["level"] for row in rows] == ["8", "6", "4", "w8a16", "w6a16", "w4a16"]
    assert {(row["tokens"], row["columns"], row["rows"]) for row in rows} == {(3, 64, 8)}
    for row in rows:
        assert row["rule"] == ("linear:int8" if row["level"] in ("8", "6", "4") else "weight_only_linear:fused")
        assert row["milliseconds"][row["fastest"]] == min(
            time for name, time in row["milliseconds"].items() if name != "16 bits"
        )
    assert not table.table_path(table.device_name(CPU)).exists()


def test_tune_keeps_what_it_measured(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("TADP_CACHE_DIR", str(tmp_path))
    name = table.device_name(CPU)
    path = table.table_path(name)
    path.parent.mkdir()
    path.write_text("damaged")
    assert main(["bench", "--tune", "--seconds", "0.001", "--device", "cpu", "--group-size", "64"]) == 0
    printed = capsys.readouterr().out
    assert str(path) in printed
    assert "3 x 64 -> 8" in printed
    kept = table.Table.load(path, name)
    assert len(kept.measurements) == len(bench.LEVELS)
    assert {entry.request.groups for entry in kept.measurements} == {1}


def test_an_interrupt_loses_nothing_that_was_measured(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("TADP_CACHE_DIR", str(tmp_path))
    measure, calls = bench.tuning.measure, []

    def interrupted(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.tuning, "measure", interrupted)
    assert main(["bench", "--tune", "--seconds", "0.001", "--device", "cpu"]) == 130
    name = table.device_name(CPU)
    assert len(table.Table.load(table.table_path(name), name).measurements) == 2


def test_a_policy_is_no_setting_of_it() -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--policy", "static:4"])

"""The parts of bench.kernels.gpu that need no GPU."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from bench import page
from bench.kernels import floors, gpu, gpu_candidates
from bench.kernels.floors import Shape, Work
from bench.kernels.gpu_candidates import BASE, Candidate
from bench.record import write
from tadp.interleaving import medians

INT8 = Work("int8", 1, 8, 2)
BFLOAT16 = Work("bfloat16", 2, 16, 2)
PEAKS = floors.Peaks({"bfloat16": 1e12, "int8": 2e12}, 1e9)


def test_shapes_cover_both_models_at_all_numbers_of_tokens() -> None:
    every = floors.shapes()
    assert len(every) == len(set(every)) == 24
    assert {(shape.columns, shape.rows) for shape in every} == {
        *((1536, 1536), (1536, 8960), (8960, 1536)),
        *((5120, 5120), (5120, 13824), (13824, 5120)),
    }
    quick = floors.shapes(quick=True)
    assert quick == every[: len(quick)]
    assert {shape.tokens for shape in quick} == {32760, 1, 16, 256}


def test_shapes_are_read() -> None:
    assert Shape.parse("256x1536x8960") == Shape(256, 1536, 8960)
    for text in ("256x1536", "axbxc", "0x1x2", "1x2x-3", ""):
        with pytest.raises(ValueError, match="TOKENSxINxOUT"):
            Shape.parse(text)


def test_floors() -> None:
    shape = Shape(10, 100, 1000)
    assert floors.operations(shape, INT8) == 2_000_000
    assert floors.floors(shape, INT8, PEAKS) == (1e-6, (1_000 + 100_000 + 20_000) / 1e9)
    assert floors.floors(shape, BFLOAT16, PEAKS) == (2e-6, (2_000 + 200_000 + 20_000) / 1e9)
    assert floors.floors(shape, Work("float8", 1, 8, 2), PEAKS)[0] is None
    assert floors.floors(shape, Work(None, 2, 0, 1), PEAKS) == (None, 3_000 / 1e9)
    assert floors.floors(shape, INT8, None) == (None, None)


@pytest.mark.parametrize(
    ("device", "bandwidth"),
    [("NVIDIA H100 80GB HBM3", 3.35e12), ("NVIDIA H100 PCIe", 2e12), ("NVIDIA H200", 4.8e12), ("NVIDIA T4", None)],
)
def test_peaks_are_found_by_name(device: str, bandwidth: float | None) -> None:
    peaks = floors.peaks_of(device)
    assert (peaks and peaks.bandwidth) == bandwidth


def test_rows() -> None:
    measured = {BASE: (BFLOAT16, 4e-6, 0.001), "mine": (INT8, 2e-6, None)}
    base, mine, broken = gpu.form_rows(Shape(10, 100, 1000), measured, {"rival": "TypeError: no"}, PEAKS)
    assert list(base) == list(mine) == list(broken)
    assert mine["x bfloat16"] == 2
    assert mine["us"] == pytest.approx(2)
    assert mine["TFLOP/s"] == pytest.approx(1)
    assert mine["% of peak"] == pytest.approx(50)
    assert broken["note"] == "TypeError: no"
    assert broken["us"] is None
    alone, _ = gpu.form_rows(Shape(10, 100, 1000), {"mine": (INT8, 2e-6, None)}, {"rival": ""}, None)
    assert alone["x bfloat16"] is None
    assert alone["% of peak"] is None


def test_a_failing_candidate_leaves_its_reason() -> None:
    good = Candidate("good, row-wise", INT8, lambda: None)

    def fails() -> Candidate:
        raise NotImplementedError("no kernel\nfor this")

    def checked(candidate: Candidate) -> gpu.Ready:
        if candidate.name == "wrong":
            raise ArithmeticError("wrong: relative error 1")
        return gpu.Ready(0.5, candidate.call, candidate.work)

    wrong = Candidate("wrong", INT8, lambda: None)
    ready, failed = gpu.prepare([("good", lambda: good), ("bad", fails), ("wrong", lambda: wrong)], checked)
    assert ready == {"good, row-wise": (0.5, good.call, INT8)}
    assert failed == {
        "bad": "NotImplementedError: no kernel",
        "wrong": "ArithmeticError: wrong: relative error 1",
    }


def test_a_timer_is_asked_in_turns_and_once_about_slow_calls() -> None:
    calls: dict[str, Callable[[], object]] = {name: lambda name=name: name for name in ("a", "b", "slow")}
    seconds = {"a": 0.01, "b": 0.05, "slow": 1.0}
    timed: list[str] = []

    def timer(call: Callable[[], object]) -> float:
        timed.append(str(call()))
        return seconds[timed[-1]]

    assert medians(calls, 0.02, timer=timer) == seconds
    assert timed.count("slow") == 1
    assert timed.count("a") == timed.count("b") > 10
    assert {("a", "b"), ("b", "a")} == set(zip(timed[3::2], timed[4::2], strict=True))


def test_every_candidate_has_a_name_of_its_own() -> None:
    layer = gpu_candidates.Layer(*[torch.zeros(0)] * 3)  # type: ignore[arg-type]
    names = [name for name, _ in gpu_candidates.builds(layer, lambda width, activations: ("one", "two"))]
    assert len(set(names)) == len(names)
    for width, activations in itertools.product((8, 6, 4), (8, 16)):
        assert sum(name.startswith(f"tadp W{width}A{activations}") for name in names) == (3 if activations == 8 else 2)


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu"])
    assert gpu.main() == 2
    assert "needs a CUDA device" in capsys.readouterr().err


def test_what_was_measured_is_on_disk_when_a_later_shape_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(shape: Shape, peaks: object, seconds: float) -> list[dict[str, object]]:
        if shape.tokens == 2:
            raise KeyboardInterrupt
        return gpu.form_rows(shape, {BASE: (BFLOAT16, 1e-6, 0.001)}, {}, PEAKS)

    path = tmp_path / "gpu.json"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(gpu, "measure", measure)
    monkeypatch.setattr("sys.argv", ["gpu", "--json", str(path), "--shapes", "1x64x64", "2x64x64", "3x64x64"])
    with pytest.raises(KeyboardInterrupt):
        gpu.main()
    content = json.loads(path.read_text())
    assert [row["tokens"] for row in content["rows"]] == [1]
    assert content["not measured"] == "2x64x64; 3x64x64"


def test_the_page_has_a_section_for_it(tmp_path: Path) -> None:
    rows = gpu.form_rows(Shape(1, 64, 64), {BASE: (BFLOAT16, 1e-6, 0.001)}, {"rival": "absent"}, PEAKS)
    write(gpu.NAME, rows, tmp_path / "gpu.json")
    assert "gpu" in page.ORDER
    section = page.section("gpu", json.loads((tmp_path / "gpu.json").read_text()))
    assert "| tokens | in | out | candidate |" in section
    assert section.count("| 1 | 64 | 64 |") == 2

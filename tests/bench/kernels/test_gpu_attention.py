"""The parts of bench.kernels.gpu_attention that need no GPU."""

import json
import sys
from pathlib import Path

import pytest
import torch

from bench import page
from bench.kernels import gpu, gpu_attention
from bench.kernels.attention_floors import (
    AttentionWork,
    Heads,
    attention_floors,
    attention_operations,
    attention_shapes,
)
from bench.kernels.floors import Peaks, peaks_of
from bench.kernels.gpu_attention import BASE, Closeness, closeness, form_attention_rows
from bench.record import write
from tadp.kernels.triton.attention_tile import OPERANDS

PEAKS = Peaks({"bfloat16": 1e12, "int8": 2e12}, 1e9)
BFLOAT16 = AttentionWork("bfloat16", "bfloat16")
MIXED = AttentionWork("int8", "bfloat16")


def test_shapes() -> None:
    every = attention_shapes()
    assert len(set(every)) == len(every) == 6
    assert {(shape.tokens, shape.heads, shape.dim) for shape in every} >= {(32760, 40, 128), (4096, 12, 128)}
    assert attention_shapes(quick=True) == every[:1]
    assert Heads.parse("10x2x64") == Heads(10, 2, 64)
    for text in ("10x2", "ax2x64", "0x1x2", ""):
        with pytest.raises(ValueError, match="TOKENSxHEADSxDIM"):
            Heads.parse(text)


def test_floors() -> None:
    shape = Heads(100, 2, 64)
    assert attention_operations(shape) == 4 * 100 * 100 * 2 * 64
    product = 2 * 100 * 100 * 2 * 64
    assert attention_floors(shape, BFLOAT16, PEAKS) == (pytest.approx(2 * product / 1e12), 8 * 100 * 2 * 64 / 1e9)
    assert attention_floors(shape, MIXED, PEAKS)[0] == pytest.approx(1.5 * product / 1e12)
    assert attention_floors(shape, AttentionWork("int8", "float8"), PEAKS)[0] is None
    assert attention_floors(shape, MIXED, None) == (None, None)


def test_floors_that_the_documentation_states() -> None:
    page = (Path(__file__).parents[3] / "docs" / "gpus.md").read_text()
    peaks = peaks_of("NVIDIA H200")
    kinds = (("bfloat16", "bfloat16"), ("int8", "bfloat16"), ("int8", "float8"))
    for shape in attention_shapes():
        floors = [attention_floors(shape, AttentionWork(*kind), peaks) for kind in kinds]
        times = [*(arithmetic for arithmetic, _ in floors), floors[0][1]]
        cells = " | ".join(f"{1e3 * time:.3g}" for time in times if time is not None)
        assert f"| {shape.tokens:,} | {shape.heads} | {cells} |" in page


def test_rows() -> None:
    measured = {BASE: (BFLOAT16, 4e-6, Closeness(0.001, 1.0)), "mine": (MIXED, 2e-6, Closeness(0.01, 0.99))}
    base, mine, broken = form_attention_rows(Heads(10, 2, 64), measured, {"rival": "ImportError: no"}, PEAKS)
    assert list(base) == list(mine) == list(broken)
    assert mine["x flash"] == 2
    assert mine["us"] == pytest.approx(2)
    assert mine["1 - cosine"] == pytest.approx(0.01)
    assert mine["% of peak"] == pytest.approx(100 * 1.5 * 25_600 / 1e12 / 2e-6)
    assert broken["note"] == "ImportError: no"
    assert broken["us"] is None
    (alone,) = form_attention_rows(Heads(10, 2, 64), {"mine": measured["mine"]}, {}, None)
    assert alone["x flash"] is None
    assert alone["% of peak"] is None


def test_closeness() -> None:
    exact = torch.tensor([3.0, 4.0])
    assert closeness(exact, exact) == (0.0, pytest.approx(1.0))
    assert closeness(torch.tensor([3.0, -4.0]), exact) == (pytest.approx(1.6), pytest.approx(-7 / 25))


def test_every_candidate_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = gpu_attention.Inputs(*[torch.zeros(1, 1, 2, 32)] * 3)
    names = tuple(f"triton-{operands}-128x64-w8-s3" for operands in OPERANDS)
    builds = dict(gpu_attention.attention_builds(inputs, names))
    assert len(builds) == 3 + 3
    assert builds["tadp triton-int8_float16-128x64-w8-s3"]().work == MIXED
    assert builds["tadp triton-int8_float8-128x64-w8-s3"]().work == AttentionWork("int8", "float8")
    assert builds[BASE]().work == BFLOAT16
    monkeypatch.setitem(sys.modules, "sageattention", None)
    with pytest.raises(ImportError):
        builds["SageAttention"]()


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("sys.argv", ["gpu_attention"])
    assert gpu_attention.main() == 2
    assert "needs a CUDA device" in capsys.readouterr().err


def test_attention_follows_the_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(shape: Heads, peaks: object, seconds: float) -> list[dict[str, object]]:
        return form_attention_rows(shape, {BASE: (BFLOAT16, 1e-6, Closeness(0.001, 1.0))}, {}, PEAKS)

    path = tmp_path / "gpu.json"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(gpu, "measure", lambda shape, peaks, seconds: [{"tokens": shape.tokens}])
    monkeypatch.setattr(gpu_attention, "measure_attention", measure)
    monkeypatch.setattr("sys.argv", ["gpu", "--quick", "--json", str(path)])
    assert gpu.main() == 0
    assert len(json.loads(path.read_text())["rows"]) == 8
    content = json.loads((tmp_path / "gpu_attention.json").read_text())
    assert [row["tokens"] for row in content["rows"]] == [4096]
    assert content["not measured"] == "nothing"


def test_the_page_has_a_section_for_it(tmp_path: Path) -> None:
    measured = {BASE: (BFLOAT16, 1e-6, Closeness(0.1, 1.0))}
    rows = form_attention_rows(Heads(1, 2, 64), measured, {"rival": "absent"}, PEAKS)
    write(gpu_attention.NAME, rows, tmp_path / "gpu_attention.json")
    assert "gpu_attention" in page.ORDER
    section = page.section("gpu_attention", json.loads((tmp_path / "gpu_attention.json").read_text()))
    assert "python -m bench.kernels.gpu_attention" in section
    assert section.count("| 1 | 2 | 64 |") == 2

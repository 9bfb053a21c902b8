"""What times come to, and that the comparisons run."""

import pytest
import torch

from tadp.doctor import speed
from tadp.doctor.findings import Verdict

CPU = torch.device("cpu")
TORCH = {"torch in bfloat16": 3.0, "torch in float32": 2.0}


def test_the_better_type_of_torch_is_the_rival() -> None:
    found = speed.judged("it", CPU, {**TORCH, "linear:int8": 1.0}, "linear:int8")
    assert found.verdict is Verdict.OK
    assert found.detail == "linear:int8 takes 1e+03 ms, torch in float32 2e+03 ms: 2.00 times as fast"
    assert speed.judged("it", CPU, {**TORCH, "linear:int8": 2.09}, "linear:int8").verdict is Verdict.OK


def test_slower_kernels_have_a_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("TADP_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("TADP_CPU_ISA", raising=False)

    def way_out(name: str) -> str:
        found = speed.judged("it", CPU, {**TORCH, name: 2.2}, name)
        assert found.verdict is Verdict.SLOWER
        return found.way_out

    assert "tadp bench --tune" in way_out("linear:int8")
    assert "+attention" in way_out("attention:int8")
    table = speed.table_path(speed.device_name(CPU))
    table.parent.mkdir(parents=True)
    table.write_text("{}")
    assert "static:16" in way_out("linear:int8")
    monkeypatch.setenv("TADP_CPU_ISA", "portable")
    assert "TADP_CPU_ISA=portable" in way_out("linear:int8")


def test_each_product_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "medians", lambda calls, *_, **__: {name: float(len(name)) for name in calls})
    found = [check.run() for check in speed.speed_checks(CPU, 0.01)]
    names = [each.subject.partition(",")[0] for each in found]
    assert names == ["linear at 8", "linear at 6", "linear at 4", "linear at w8a16", "attention at 8"]
    assert all(each.verdict in (Verdict.OK, Verdict.SLOWER) for each in found)

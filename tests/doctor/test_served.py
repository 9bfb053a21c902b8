"""Which kernels are listed for a device, and that nothing that serves is a finding."""

import pytest
import torch

from tadp.doctor.findings import Verdict
from tadp.doctor.served import Served, served_on
from tadp.kernels import registry
from tadp.kernels import triton as triton_kernels

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def by_product(device: torch.device) -> dict[str, Served]:
    return {row.product: row for row in served_on(device)}


def test_kernels_stand_in_order_and_others_with_their_reason() -> None:
    rows = by_product(CPU)
    assert rows["linear at 8, 4 tokens"].kernels[:2] == ("linear:int8", "weight_only_linear:fused")
    many = rows["linear at w8a16, 1024 tokens"]
    assert many.kernels == ("weight_only_linear:dequantize",)
    assert many.reasons == (("weight_only_linear:fused", "it takes up to 16 tokens"),)
    assert rows["block-sparse attention at 8"].kernels == ("attention:int8",)
    assert all(row.finding() is None for row in rows.values())


def test_kernels_with_sizes_are_listed_by_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(triton_kernels, "missing", lambda: None)
    rows = by_product(GPU)
    for product in ("linear at 8, 1024 tokens", "attention at 8", "block-sparse attention at 8"):
        assert any(":triton-" in name for name in rows[product].kernels), product
        assert rows[product].finding() is None


def test_a_gpu_without_kernels_is_a_finding_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(triton_kernels, "missing", lambda: None)
    found = by_product(GPU)["attention at 8"].finding()
    assert found is not None
    assert found.verdict is Verdict.NOT_SERVED
    assert "this GPU has 7.5" in found.detail
    assert found.way_out


def test_a_device_that_has_no_kernels_at_all_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in [place for place in registry.KERNELS if place[1] == "cpu"]:
        monkeypatch.setitem(registry.KERNELS, place, ())
    found = by_product(CPU)["linear at 4, 4 tokens"].finding()
    assert found is not None
    assert found.detail == "there is no kernel for this device"

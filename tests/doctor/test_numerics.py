"""Faults that are put into kernels are found, and kernels without any pass."""

from typing import Any

import pytest
import torch

from tadp.doctor.findings import Finding, Verdict
from tadp.doctor.numerics import numeric_checks
from tadp.kernels import reference, registry
from tadp.kernels.registry import Kernel

CPU = torch.device("cpu")


def put_in(monkeypatch: pytest.MonkeyPatch, operator: str, run: Any) -> None:
    """Register a kernel of the CPU that serves everything, for one test."""
    place = operator, "cpu"
    kernel = Kernel("broken", operator, "cpu", lambda request: None, run, sparse=True)
    monkeypatch.setitem(registry.KERNELS, place, (kernel, *registry.KERNELS[place]))


def findings(name: str) -> list[Finding]:
    """Of all checks of a kernel or operator, one for each instruction set."""
    return [check.run() for check in numeric_checks(CPU) if check.subject.startswith(f"{name} (")]


@pytest.mark.parametrize("name", ["quantize", "dequantize", "weight_only_linear:fused", "attention:int8"])
def test_kernels_that_are_right_pass(name: str) -> None:
    found = findings(name)
    assert found
    assert {each.verdict for each in found} == {Verdict.OK}


def off_in_one_result(codes: Any, planes: Any, epilogue: Any) -> torch.Tensor:
    found = reference.linear(codes, planes, epilogue)
    found[-1, -1] += 0.01 * found.abs().max()
    return found


def not_a_number(x: Any, planes: Any, epilogue: Any) -> torch.Tensor:
    found = reference.weight_only_linear(x, planes, epilogue)
    found[0, 0] = torch.nan
    return found


def without_the_last_keys(q: Any, k: Any, v: Any, mask: Any, scale: Any, block_map: Any = None) -> torch.Tensor:
    keys = k.shape[2] - 40
    hidden = torch.arange(k.shape[2]) < keys
    return reference.attention(q, k, v, hidden.view(1, 1, 1, -1), scale)


@pytest.mark.parametrize(
    ("operator", "run"),
    [("linear", off_in_one_result), ("weight_only_linear", not_a_number), ("attention", without_the_last_keys)],
)
def test_a_kernel_with_wrong_results_is_found(operator: str, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, operator, run)
    for found in findings(f"{operator}:broken"):
        assert found.verdict is Verdict.WRONG
        assert "off by more than rounding explains" in found.detail
        assert "--json" in found.way_out


def test_a_kernel_that_raises_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: Any) -> torch.Tensor:
        raise ValueError("no such instruction\nat line 3")

    put_in(monkeypatch, "linear", fails)
    for found in findings("linear:broken"):
        assert (found.verdict, found.detail) == (Verdict.WRONG, "it fails with ValueError: no such instruction")


def test_an_operator_with_wrong_results_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by_one(x: torch.Tensor, groups: int = 0) -> Any:
        codes, scale, total = reference.quantize(x, groups)
        return codes + 1, scale, total

    monkeypatch.setattr(torch.ops.tadp, "quantize", off_by_one)
    assert {found.verdict for found in findings("quantize")} == {Verdict.WRONG}


SIZES = {
    "weight_only_linear": "triton-64x16x64-w4-s4-k4",
    "attention": "triton-int8_float8-64x64-w4-s2",
}


@pytest.mark.parametrize("operator", SIZES)
@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_kernels_with_sizes_are_held_to_the_bounds_of_their_size(
    operator: str, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*arguments: Any, kernel_name: str, **options: Any) -> torch.Tensor:
        assert kernel_name == SIZES[operator]
        return factor * getattr(reference, operator)(*arguments, **options)

    place = operator, "cpu"
    kernel = Kernel(
        "triton", operator, "cpu", lambda request: None, run, lambda request: (SIZES[operator],), sparse=True
    )
    monkeypatch.setitem(registry.KERNELS, place, (kernel, *registry.KERNELS[place]))
    expected = Verdict.OK if factor == 1.0 else Verdict.WRONG
    assert {found.verdict for found in findings(f"{operator}:triton")} == {expected}


def test_a_kernel_that_serves_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    place = "linear", "cpu"
    kernel = Kernel("idle", "linear", "cpu", lambda request: "never", reference.linear)
    monkeypatch.setitem(registry.KERNELS, place, (kernel, *registry.KERNELS[place]))
    assert {found.verdict for found in findings("linear:idle")} == {Verdict.NOT_SERVED}

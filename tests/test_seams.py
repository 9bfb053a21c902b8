"""Each seam takes a newcomer through one declaration: a width, a signal, a policy, a family and a kernel, all made up.

What is declared here shows up where users and caches look: history, explain, report and keys. Nothing else is changed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import tadp
from tadp import families, passes
from tadp.families import Family
from tadp.kernels import planes, reference, registry
from tadp.kernels.formats import FORMATS, WIDTHS
from tadp.kernels.registry import Kernel
from tadp.kernels.table import Measurement, Table
from tadp.kernels.values import Planes
from tadp.passes.sources import parts_of
from tadp.policy import Policy, Seen, parse
from tadp.policy import policy as policies
from tadp.policy.plans import uniform_plan
from tadp.precision import L8, Level, Part, Plan, Recipe, Role
from tadp.report.run import Observed, Run, block_signals
from tadp.runtime import signals
from tadp.runtime.record import StepRecord
from tadp.runtime.signals import At, Column, Signal, features
from tests.kernels.requests import REQUEST

pytestmark = pytest.mark.compiles


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.widen, self.narrow = nn.Linear(16, 16), nn.Linear(16, 48), nn.Linear(48, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.narrow(self.widen(x + self.mix(x)).relu())


class Toy(nn.Module):
    """A model that no rule knows: its list is called trunk, and its first layer has no telling name or shape."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.ModuleList([Block(), Block(), Block()])

    def forward(self, x: torch.Tensor, level_of_noise: torch.Tensor) -> torch.Tensor:
        for block in self.trunk:
            x = block(x)
        return x


X = torch.randn(1, 6, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Declarations are forgotten after each test, and graphs run without Inductor."""
    torch._dynamo.reset()
    monkeypatch.setattr(passes, "lower", lambda graph, device, options=None: passes.Lowered(graph.forward))
    monkeypatch.setattr(families, "FAMILIES", list(families.FAMILIES))
    monkeypatch.setattr(registry, "KERNELS", dict(registry.KERNELS))
    monkeypatch.setattr("tadp.runtime.signals.declarations.SIGNALS", list(signals.SIGNALS))
    monkeypatch.setattr("tadp.policy.policy._KINDS", dict(vars(policies)["_KINDS"]))
    yield
    torch._dynamo.reset()


def _toy_family() -> Family:
    return families.register(
        Family("toy", ("Toy",), ("trunk",), {"mix": Role.SELF_ATTN_OUT}, timestep=("level_of_noise",))
    )


def test_a_family_is_one_declaration() -> None:
    _toy_family()
    model = tadp.compile(Toy().eval(), policy="static:8")
    model(X, level_of_noise=torch.tensor([700.0]))
    roles = {layer.layer: layer.role for layer in model.tadp.layers()}
    assert roles["trunk.1.mix"] is Role.SELF_ATTN_OUT
    assert roles["trunk.1.widen"] is Role.FFN_UP  # what is not declared follows its shape
    assert "trunk.1.mix" in str(model.tadp.explain())
    assert model.tadp.history[0].timestep == 700.0


def test_a_policy_is_one_declaration() -> None:
    @policies.register
    @dataclass(frozen=True)
    class Alternating(Policy):
        """Every second block at 8 bits."""

        name: ClassVar[str] = "alternating"
        first: int = 0

        @classmethod
        def parse(cls, settings: str) -> "Alternating":
            return cls(int(settings or 0))

        def written(self) -> str:
            return str(self.first) if self.first else ""

        def recipes(self) -> tuple[Recipe, ...]:
            return Recipe(L8), Recipe()

        def plan(self, seen: Seen) -> Plan:
            plan = uniform_plan(seen.blocks, Recipe(), keep_ends=False)
            for block in seen.blocks[self.first :: 2]:
                plan = plan.replaced(block, Recipe(L8))
            return plan

    assert parse("alternating:1") == Alternating(1)
    assert str(Alternating(1)) == "alternating:1"
    assert Alternating(0).key != Alternating(1).key
    _toy_family()
    model = tadp.compile(Toy().eval(), policy="alternating:1")
    model(X, torch.tensor([700.0]))
    assert {str(layer.level) for layer in model.tadp.layers() if layer.piece == "trunk.1"} == {"8"}
    assert {str(layer.level) for layer in model.tadp.layers() if layer.piece == "trunk.2"} == {"16"}
    assert model.tadp.history[0].plan == Alternating(1).plan(Seen(model.tadp.blocks))


def _largest(values: torch.Tensor) -> torch.Tensor:
    return values.abs().flatten(1).amax(1, keepdim=True)


def test_a_signal_is_one_declaration() -> None:
    column = Column("largest", "largest absolute value", max, shown="largest value")
    signals.register(Signal("largest", At.LINEAR_INPUT, _largest, (column,), "all values"))
    with pytest.raises(ValueError, match="called 'largest' already"):
        signals.register(Signal("again", At.LINEAR_INPUT, _largest, (column,), ""))
    _toy_family()
    model = tadp.compile(Toy().eval(), policy="complexity")
    model(X, torch.tensor([700.0]))
    (record,) = model.tadp.history
    assert record.signals is not None
    block = next(found for found in record.signals.blocks if found.piece == "trunk.1")
    assert {layer.rpartition(".")[2] for layer in block.by_layer("largest")} == {"mix", "widen", "narrow"}
    highest = max(values[0] for values in block.by_layer("largest").values())
    assert features([record.signals], frozenset({"trunk.1"}))["largest"] == highest
    shown = block_signals(_run_of(record))[1]["trunk.1"]
    assert shown["largest value"] == pytest.approx(highest)


def _run_of(record: StepRecord) -> Run:
    observed = Observed(history=(record,), score=None, plan=record.plan, weight_bytes=0)
    return Run("complexity", np.zeros((1, 1, 1, 3)), 0.0, {"transformer": observed})


def test_a_kernel_is_one_declaration(tmp_path: Path) -> None:
    known = registry.KERNELS["linear", "cpu"][0]
    registry.register(Kernel("toy", "linear", "cpu", known.serves, known.run))
    assert str(registry.choose(REQUEST, torch.device("cpu"))) == "linear:toy"
    _toy_family()
    model = tadp.compile(Toy().eval(), policy="static:8")
    model(X, torch.tensor([700.0]))
    assert {layer.kernel for layer in model.tadp.layers() if layer.piece == "trunk.0"} == {"linear:toy"}
    assert "linear:toy" in str(model.tadp.explain())
    measured = Table("cpu", (Measurement(REQUEST, (("linear:toy", 1.0), ("linear:int8", 2.0))),))
    measured.save(tmp_path / "table.json")
    offered = frozenset(map(str, registry.candidates(REQUEST)))
    assert Table.load(tmp_path / "table.json", "cpu").fastest(REQUEST, offered) == "linear:toy"


def test_a_width_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row says which planes are read and what codes stand for; the reference and graphs follow it.

    tests/kernels/test_formats.py holds the row against C++ and Triton. The product of a new width is a kernel.
    """
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    codes, scale = planes.encode(weight)
    cut = Planes(*planes.cut(codes), scale)
    narrow = Planes(cut.high, cut.mid, None, scale)
    before = reference.dequantize(narrow, 64, torch.float64)
    shifted = replace(FORMATS[6], zero=FORMATS[6].zero - 4)
    monkeypatch.setitem(FORMATS, 6, shifted)
    after = reference.dequantize(narrow, 64, torch.float64)
    assert torch.allclose(after - before, 4 * scale.double()[:, None].expand(8, 64))
    assert parts_of(Level.parse("6"), balanced=False)[: len(shifted.planes)] == tuple(map(Part, shifted.planes))
    assert set(WIDTHS) == set(FORMATS)

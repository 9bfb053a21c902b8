"""Layers that torch.compile does not capture: on their 16-bit masters where these are mapped, else packed."""

import warnings
from collections import Counter
from collections.abc import Iterator

import pytest
import torch

import tadp
from tadp.errors import PrecisionFallbackWarning
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.precision import L8, L16
from tadp.runtime import device_memory, pool
from tadp.runtime.checkpoint import CheckpointMasters
from tests.models import relative_error, tiny_inputs, tiny_transformer


class _Block(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(32, 64)
        self.down = torch.nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.uncompiled(torch.nn.functional.gelu(self.up(x)))

    @torch.compiler.disable
    def uncompiled(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(x)


class _Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(_Block() for _ in range(2))

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


LAYERS = 2 * 10
"""Packed layers of a tiny transformer of two blocks."""


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the master of each layer was read."""
    found: Counter[str] = Counter()
    get = CheckpointMasters.get

    def counted(self: CheckpointMasters, key: str, device: torch.device) -> torch.Tensor:
        found[key] += 1
        return get(self, key, device)

    monkeypatch.setattr(CheckpointMasters, "get", counted)
    return found


@pytest.fixture
def uncaptured() -> Iterator[None]:
    """Nothing is captured, as under TORCH_COMPILE_DISABLE=1 or past the recompile limit."""
    torch._dynamo.reset()
    with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionFallbackWarning)
        yield


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "copied"])
@pytest.mark.usefixtures("uncaptured")
def test_masters_are_read_where_a_device_maps_them(
    mapped: bool, read: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tiny_transformer(layers=2, dtype=torch.float32)
    inputs = tiny_inputs(dtype=torch.float32)
    with torch.no_grad():
        (expected,) = plain(**inputs)
        monkeypatch.setattr(device_memory, "copies_masters", lambda device: not mapped)
        model = tadp.compile(plain, policy="static:16")
        (found,) = model(**inputs)
        model(**inputs)
    assert sum(read.values()) == (2 * LAYERS if mapped else 0)
    assert torch.equal(found, expected) == mapped
    assert 0.0 <= relative_error(found, expected) < 0.05
    layers = [layer for layer in model.tadp.layers() if layer.piece.startswith("blocks.")]
    assert {layer.level for layer in layers} <= {L16 if mapped else L8, L16}


@pytest.mark.usefixtures("read")
def test_a_layer_says_once_what_it_runs_at(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr(device_memory, "copies_masters", lambda device: True)
    model = tadp.compile(tiny_transformer(layers=2, dtype=torch.float32), policy="static:16")
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        for expected in (LAYERS, 0):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                model(**tiny_inputs(dtype=torch.float32))
            told = [str(each.message) for each in caught if "did not capture" in str(each.message)]
            assert len(told) == expected
            assert all(" runs at 8 bits whatever the policy says: " in message for message in told)


@pytest.mark.usefixtures("uncaptured")
def test_a_device_that_cannot_multiply_codes_copies_masters(
    read: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_memory, "copies_masters", lambda device: True)
    monkeypatch.setattr(pool, "multiplies_codes", lambda device: False)
    model = tadp.compile(tiny_transformer(layers=2), policy="static:8")
    assert any(isinstance(weight, BitPlaneWeight) for weight in model.parameters())
    with torch.no_grad():
        model(**tiny_inputs())
    assert sum(read.values()) == LAYERS


@pytest.mark.compiles
@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "copied"])
def test_explain_says_at_which_level_such_a_layer_runs(mapped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr(device_memory, "copies_masters", lambda device: not mapped)
    model = tadp.compile(_Model(), policy="static:16")
    with torch.no_grad(), pytest.warns(PrecisionFallbackWarning, match="did not capture"):
        model(torch.randn(2, 8, 32), torch.tensor([500.0, 500.0]))
    rows = {row.layer: row for row in model.tadp.layers()}
    assert rows["blocks.1.down"].level == (L16 if mapped else L8)
    assert "did not capture" in rows["blocks.1.down"].reason
    assert rows["blocks.1.up"].level == L16

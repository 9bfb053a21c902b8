"""What a generation takes beside its arithmetic: 16-bit weights in memory, waits for the device, compilations.

The masters of the model are counted as a device would hold them that cannot map files.
"""

import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch.utils._python_dispatch import TorchDispatchMode

import tadp
from tadp import passes
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.runtime import pool
from tadp.runtime.pool import Masters
from tadp.runtime.signals import Signals
from tests.models import tiny_inputs, tiny_transformer

pytestmark = pytest.mark.compiles

STEPS = 8
SIMPLE = "a red circle"
COMPLEX = (
    "three red circles and two blue squares bounce off each other while a green triangle spins quickly between them, "
    "and in front of a crowded market dozens of people with umbrellas run in all directions through heavy rain"
)


class OnDevice:
    """Masters that are copied to where they are read.

    Attributes:
        reads: how often each was read.
        alive, peak: bytes of those that somebody holds, now and at most.
    """

    def __init__(self, inner: Masters) -> None:
        self.inner = inner
        self.reads: Counter[str] = Counter()
        self.alive = self.peak = 0

    def holds(self, key: str) -> bool:
        return self.inner.holds(key)

    def get(self, key: str, device: torch.device) -> torch.Tensor:
        self.reads[key] += 1
        copied = self.inner.get(key, device).clone()
        self.alive += copied.nbytes
        self.peak = max(self.peak, self.alive)
        weakref.finalize(copied, self._let_go, copied.nbytes)
        return copied

    def _let_go(self, nbytes: int) -> None:
        self.alive -= nbytes


class Waits(TorchDispatchMode):
    """Counts how often Python fetches what tensors hold; on a GPU each waits for all that was asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._patch = pytest.MonkeyPatch()

    def __enter__(self) -> "Waits":
        for name in ("tolist", "cpu", "numpy"):  # which are no operations
            self._patch.setattr(torch.Tensor, name, self._counted(getattr(torch.Tensor, name)))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._patch.undo()

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(tensor: torch.Tensor, *arguments: Any, **named: Any) -> Any:
            self.count += 1
            return method(tensor, *arguments, **named)

        return call

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        return True  # else nothing would be compiled

    def __torch_dispatch__(self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def compiled(policy: str) -> tuple[WanTransformer3DModel, OnDevice]:
    torch._dynamo.reset()
    model = tadp.compile(tiny_transformer(4), policy=policy, calibration=None)
    masters = OnDevice(model.tadp._pool._masters)
    model.tadp._pool._masters = masters
    return model, masters


def block_bytes(model: WanTransformer3DModel) -> int:
    """Of the linear weights in blocks at 16 bits."""
    weights = (weight for weight in model.parameters() if isinstance(weight, BitPlaneWeight))
    return sum(weight.numel() * weight.dtype.itemsize for weight in weights)


def generate(model: WanTransformer3DModel, prompt: str = SIMPLE, steps: int = STEPS) -> list[int]:
    """A generation; how many values each of its steps fetched."""
    waits = []
    model.tadp.begin(prompt=prompt, num_steps=steps)
    for step in range(steps):
        inputs = tiny_inputs(timestep=999.0 * (1 - step / steps))
        with Waits() as counted, torch.no_grad():
            (found,) = model(**inputs)
        assert found.isfinite().all()
        waits.append(counted.count)
    return waits


def test_8_bits_read_no_master() -> None:
    model, masters = compiled("static:8")
    generate(model)
    assert not masters.reads
    assert model.tadp.weight_bytes() == model.tadp._pool.plane_bytes + model.tadp._facts.other_weight_bytes


@pytest.mark.parametrize(
    ("policy", "prompt", "broken"),
    [
        ("complexity", SIMPLE, False),
        ("complexity", COMPLEX, False),
        ("complexity", SIMPLE, True),
        ("static:16", SIMPLE, False),
    ],
    ids=["simple", "complex", "NaN", "static:16"],
)
def test_no_master_is_held_twice_nor_longer_than_a_plan_needs_it(
    policy: str, prompt: str, broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, masters = compiled(policy)
    if broken:
        monkeypatch.setattr(Signals, "not_finite", lambda self: ["the entropy of blocks.1"])
    for _ in range(2):
        if broken:
            with pytest.warns(tadp.PrecisionFallbackWarning, match="the step is repeated at 16 bits"):
                generate(model, prompt)
        else:
            generate(model, prompt)
    # planes stay, and beside them at most the whole model's 16-bit weights, each once
    assert 0 < masters.peak <= block_bytes(model)
    assert policy != "static:16" or masters.peak == block_bytes(model)
    assert masters.alive == model.tadp._pool.master_bytes
    model.tadp.use("static:8")
    generate(model, steps=1)
    assert masters.alive == 0


@pytest.mark.parametrize("case", ["simple", "complex", "NaN", "static:16"])
def test_a_device_with_little_room_is_never_asked_for_more(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, masters = compiled("static:16" if case == "static:16" else "complexity")
    room = block_bytes(model) // 3
    monkeypatch.setattr(pool, "fits", lambda nbytes, device: masters.alive + nbytes <= room)
    if case == "NaN":
        monkeypatch.setattr(Signals, "not_finite", lambda self: ["the entropy of blocks.1"])
    with pytest.warns(tadp.PrecisionFallbackWarning, match="runs at w8a16: the device has no room"):
        generate(model, COMPLEX if case == "complex" else SIMPLE)
    assert 0 < masters.peak <= room


def test_a_step_waits_once_for_the_device() -> None:
    for policy in ("static:8", "static:16", "static:8+attention"):
        model, _ = compiled(policy)
        generate(model)
        first, *others = generate(model)
        assert first <= 1 + 3  # the timestep, and whether each of three inputs is finite
        assert set(others) == {1}


def test_probes_alone_wait_for_what_they_measure() -> None:
    model, _ = compiled("complexity")
    generate(model, COMPLEX)
    waits = generate(model, COMPLEX)
    probed = [record.phase == "probe" for record in model.tadp.history[-STEPS:]]
    assert any(probed[1:])
    blocks = len(model.tadp.blocks)  # each fetches its signals once, and the generation its own
    for count, probing in zip(waits[1:], probed[1:], strict=True):
        # Reuse reads what it measured in the step before, together with the timestep: nothing of the step runs yet.
        assert 1 < count <= 1 + blocks + 3 if probing else count <= 2


def test_nothing_is_compiled_after_the_first_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = compiled("complexity")
    generate(model, steps=1)
    lowered: list[object] = []
    lower = passes.lower
    monkeypatch.setattr(passes, "lower", lambda graph, *others: (lowered.append(graph), lower(graph, *others))[1])
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for prompt in (SIMPLE, COMPLEX):
        generate(model, prompt)
    assert lowered == []
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs

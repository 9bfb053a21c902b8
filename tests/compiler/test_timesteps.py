"""Timesteps are read once a step, however many guidance branches a step has."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tadp.compiler.timesteps import TimestepReader


class Reads(TorchDispatchMode):
    """Counts how often a tensor's value is fetched, which on a GPU waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: object = None) -> object:  # type: ignore[type-arg]
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))  # type: ignore[operator]


def test_branches_of_a_step_share_one_read() -> None:
    reader, timesteps = TimestepReader(), torch.tensor([999.0, 500.0, 1.0])
    with Reads() as reads:
        found = [reader.read({"timestep": t.expand(2)}) for t in timesteps for _ in range(3)]
    assert found == [value for value in (999.0, 500.0, 1.0) for _ in range(3)]
    assert reads.count == 3


def test_a_changed_value_is_read_again() -> None:
    reader, timestep = TimestepReader(), torch.tensor([7.0])
    assert reader.read({"timestep": timestep}) == 7.0
    timestep.fill_(3.0)
    assert reader.read({"timestep": timestep}) == 3.0
    with torch.inference_mode():
        own = torch.tensor([5.0])
        assert reader.read({"timestep": own}) == 5.0
        own.fill_(4.0)
        assert reader.read({"timestep": own}) == 4.0


def test_tensors_in_the_same_place_are_told_apart() -> None:
    reader, seen = TimestepReader(), []
    for value in range(50):  # each is freed before the next one is made, unless somebody keeps it
        seen.append(reader.read({"timestep": torch.full((1,), float(value))}))
    assert seen == [float(value) for value in range(50)]
    bits = torch.tensor([1.0])
    assert reader.read({"timestep": bits}) == 1.0
    assert reader.read({"timestep": bits.view(torch.int32)}) == float(0x3F800000)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"timestep": torch.tensor([[3.0, 9.0], [1.0, 2.0]])}, 9.0),
        ({"timestep": torch.tensor([4])}, 4.0),
        ({"t": 8}, 8.0),
        ({"timestep": torch.empty(0), "sigma": 0.5}, 0.5),
        ({"x": 1.0}, None),
    ],
)
def test_what_is_taken_for_a_timestep(arguments: dict[str, object], expected: float | None) -> None:
    assert TimestepReader().read(arguments) == expected


def test_names_are_those_of_the_family() -> None:
    assert TimestepReader(("clock",)).read({"timestep": 1.0, "clock": 2.0}) == 2.0

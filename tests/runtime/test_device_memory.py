"""Room on a GPU, told from what its driver and PyTorch's allocator say."""

import pytest
import torch

from tadp.runtime.device_memory import fits

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)


@pytest.mark.parametrize(
    ("free", "reserved", "allocated", "nbytes", "room"),
    [
        (300, 0, 0, 200, True),
        (300, 0, 0, 201, False),  # a tenth of the memory stays free
        (100, 500, 300, 200, True),  # what the allocator holds and nobody uses
        (100, 500, 301, 200, False),
    ],
)
def test_weights_leave_a_tenth_to_activations(
    free: int, reserved: int, allocated: int, nbytes: int, room: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.device] = []

    def info(device: torch.device) -> tuple[int, int]:
        asked.append(device)
        return free, 1000

    monkeypatch.setattr(torch.cuda, "mem_get_info", info)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: reserved)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: allocated)
    assert fits(nbytes, GPU) == room
    assert asked == [GPU]


def test_other_devices_always_have_room() -> None:
    assert fits(1 << 60, CPU)

"""Planes that are kept in main memory while a model is on another device, which here is main memory too."""

from dataclasses import dataclass, field

import torch

from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.runtime.host_copies import HostCopies

CPU, GPU, OTHER = torch.device("cpu"), torch.device("cuda", 0), torch.device("cuda", 1)


@dataclass
class Link:
    """Copies weights, and notes where to."""

    made: list[str] = field(default_factory=list)

    def copy(self, weight: BitPlaneWeight, device: torch.device) -> BitPlaneWeight:
        self.made.append(str(device))
        parts = (weight.high.clone(), weight.mid.clone(), weight.low.clone(), weight.scale.clone())
        return BitPlaneWeight(*parts, weight.columns, weight.dtype)


def packed(seed: int = 0) -> BitPlaneWeight:
    return BitPlaneWeight.from_hp(torch.randn(4, 8, generator=torch.Generator().manual_seed(seed)))


def as_parameter(weight: BitPlaneWeight) -> BitPlaneWeight:
    """What a module gives back of a weight that it was given."""
    found = torch.nn.Parameter(weight, requires_grad=False)
    assert isinstance(found, BitPlaneWeight)
    return found


def test_what_came_back_once_is_not_copied_back_again() -> None:
    copies, link, host = HostCopies(), Link(), packed()
    there = copies.move("a", host, GPU, link.copy)
    assert copies.layers == frozenset()  # it may stay there
    home = copies.move("a", as_parameter(there), CPU, link.copy)
    assert link.made == ["cuda:0", "cpu"]
    for _ in range(3):
        there = copies.move("a", as_parameter(home), GPU, link.copy)
        again = copies.move("a", as_parameter(there), CPU, link.copy)
        assert again.high.data_ptr() == home.high.data_ptr()
    assert link.made == ["cuda:0", "cpu"] + ["cuda:0"] * 3
    assert torch.equal(again.dequantize(), host.dequantize())


def test_layers_are_kept_apart() -> None:
    copies, link = HostCopies(), Link()
    first, second = packed(1), packed(2)
    for _ in range(2):
        there = [copies.move(name, weight, GPU, link.copy) for name, weight in (("a", first), ("b", second))]
        first, second = (copies.move(name, weight, CPU, link.copy) for name, weight in zip("ab", there, strict=True))
    assert torch.equal(first.dequantize(), packed(1).dequantize())
    assert torch.equal(second.dequantize(), packed(2).dequantize())
    assert copies.layers == {"a", "b"}


def test_a_weight_that_was_written_to_comes_back_as_it_is() -> None:
    copies, link, weight = HostCopies(), Link(), packed()
    for _ in range(2):
        weight = copies.move("a", copies.move("a", weight, GPU, link.copy), CPU, link.copy)
    there = copies.move("a", weight, GPU, link.copy)
    there.scale.mul_(2)
    back = copies.move("a", there, CPU, link.copy)
    assert torch.equal(back.dequantize(), there.dequantize())
    replaced = copies.move("a", packed(5), CPU, link.copy)  # another one took its place there
    assert torch.equal(replaced.dequantize(), packed(5).dequantize())


def test_from_one_gpu_to_another_it_goes_straight() -> None:
    copies, link, weight = HostCopies(), Link(), packed()
    weight = copies.move("a", copies.move("a", weight, GPU, link.copy), CPU, link.copy)
    on_other = copies.move("a", copies.move("a", weight, GPU, link.copy), OTHER, link.copy)
    link.made.clear()
    assert copies.move("a", on_other, CPU, link.copy).high.data_ptr() == weight.high.data_ptr()
    assert link.made == []


def test_inference_tensors_do_not_count_changes_and_are_copied() -> None:
    copies, link = HostCopies(), Link()
    with torch.inference_mode():
        weight = packed()
        for _ in range(2):
            weight = copies.move("a", copies.move("a", weight, GPU, link.copy), CPU, link.copy)
    assert link.made == ["cuda:0", "cpu"] * 2

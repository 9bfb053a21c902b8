import torch

from tadp.runtime.signals import BlockSignals, HasBlockMap, Signals, read_block_maps


class _Sparse(torch.nn.Module):
    def __init__(self, block_map: torch.Tensor | None) -> None:
        super().__init__()
        self.block_map = block_map


def test_modules_that_show_a_map_are_told_from_others() -> None:
    assert isinstance(_Sparse(None), HasBlockMap)
    assert not isinstance(torch.nn.Linear(2, 2), HasBlockMap)


def test_the_first_map_of_a_measured_block_becomes_its_entropy() -> None:
    half = torch.zeros(1, 2, 3, 16, dtype=torch.bool)
    half[..., :4] = True
    signals = Signals((BlockSignals("blocks.1", {("entropy", ""): (0.5,)}), BlockSignals("blocks.2")))
    modules = [
        ("blocks.0", _Sparse(half)),
        ("blocks.1", _Sparse(None)),
        ("blocks.1", _Sparse(half)),
        ("blocks.1", _Sparse(torch.ones_like(half))),
    ]
    first, second = read_block_maps(signals, modules).blocks
    assert first["block_map_entropy"] == (0.5,)
    assert first["entropy"] == (0.5,)
    assert second["block_map_entropy"] == ()


def test_without_maps_signals_stay_as_they_are() -> None:
    signals = Signals((BlockSignals("blocks.1"),))
    assert read_block_maps(signals, [("blocks.1", _Sparse(None))]) is signals

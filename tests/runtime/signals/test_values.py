import math

import pytest
import torch

from tadp.precision import L6, Recipe
from tadp.runtime.signals import BlockSignals, Signals, read, with_deltas


def test_readings_become_signals_per_sample() -> None:
    rows = [
        ("attention", "", torch.tensor([[0.5, 0.01], [0.7, 0.02]])),
        ("moments", "blocks.0.ffn", torch.tensor([[3.0, 0.1], [4.0, 0.2]])),
        ("rounding", "blocks.0.ffn", torch.tensor([[0.01, 0.04, 0.16], [0.02, 0.08, 0.32]])),
        ("change", "", torch.tensor([[0.25], [math.nan]])),
    ]
    block = read("blocks.0", rows, {Recipe(L6): torch.tensor([[0.3], [0.4]])})
    assert block["entropy"] == pytest.approx((0.5, 0.7))
    assert block["entropy_error"] == pytest.approx((0.01, 0.02))
    assert block.by_layer("kurtosis")["blocks.0.ffn"] == pytest.approx((3.0, 4.0))
    assert block.by_layer("skewness")["blocks.0.ffn"] == pytest.approx((0.1, 0.2))
    assert block["relative_change"][0] == 0.25
    assert block.by_layer("quantization_error:4")["blocks.0.ffn"] == pytest.approx((0.16, 0.32))
    assert block.by_name("shadow_error") == {"6": pytest.approx((0.3, 0.4))}


def test_layers_may_count_samples_differently() -> None:
    rows = [("moments", "a", torch.tensor([[3.0, 0.1]])), ("moments", "b", torch.tensor([[1.0, 0.1], [2.0, 0.2]]))]
    block = read("blocks.0", rows)
    assert block.by_layer("kurtosis") == {"a": (3.0,), "b": (1.0, 2.0)}


def test_a_block_without_readings_has_a_name_only() -> None:
    assert read("blocks.0", []) == BlockSignals("blocks.0")


def test_unknown_readings_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown signal 'colour'"):
        read("blocks.0", [("colour", "", torch.zeros(1, 1))])


def test_deltas_are_differences_to_the_step_before_by_sample() -> None:
    before = Signals((BlockSignals("blocks.0", {("relative_change", ""): (0.5, 0.25)}), BlockSignals("blocks.1")))
    now = Signals(
        (
            BlockSignals("blocks.0", {("relative_change", ""): (0.25, 0.5)}),
            BlockSignals("blocks.2", {("relative_change", ""): (1.0,)}),
        )
    )
    first, second = with_deltas(now, before).blocks
    assert first["relative_change_delta"] == (-0.25, 0.25)
    assert second["relative_change_delta"] == ()


def test_deltas_need_batches_of_one_size() -> None:
    before, now = (Signals((BlockSignals("blocks.0", {("relative_change", ""): (0.5,) * size}),)) for size in (1, 2))
    assert with_deltas(now, before).blocks[0]["relative_change_delta"] == ()


def test_a_block_in_several_pieces_is_compared_piece_by_piece() -> None:
    before, now = (
        Signals(tuple(BlockSignals("blocks.0", {("relative_change", ""): (change,)}) for change in changes))
        for changes in ((0.5, 1.0), (0.75, 3.0))
    )
    assert [block["relative_change_delta"] for block in with_deltas(now, before).blocks] == [(0.25,), (2.0,)]

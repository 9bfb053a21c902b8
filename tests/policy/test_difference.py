"""The rule of 6Bit-Diffusion: how much a block changes its input chooses its bits."""

import pytest

from tadp.policy import Difference, Seen, parse
from tadp.precision import L4, L8, Extrapolation
from tadp.runtime.signals import BlockSignals, Signals

BLOCKS = ("blocks.0", "blocks.1", "blocks.2")


def _signals(*changes: float) -> Signals:
    pairs = zip(BLOCKS, changes, strict=True)
    return Signals(tuple(BlockSignals(block, {("relative_change", ""): (change,)}) for block, change in pairs))


def test_blocks_that_change_little_get_few_bits() -> None:
    seen = Seen(BLOCKS, 0.5, (_signals(0.1, 0.5, 0.39), _signals(0.3, 0.7, 0.45)))
    plan = Difference(threshold=0.4).plan(seen)
    assert [plan[block].default for block in BLOCKS] == [L4, L8, L8]
    assert plan.why("blocks.1") == "changes its input by 60%"


def test_everything_is_measured_at_8_bits() -> None:
    assert {recipe.default for _, recipe in Difference().plan(Seen(BLOCKS))} == {L8}


def test_stable_blocks_add_their_last_residual() -> None:
    (reuse,) = {recipe.reuse for _, recipe in parse("difference:reuse=0.02").plan(Seen(BLOCKS))}
    assert reuse is not None
    assert reuse.extrapolation is Extrapolation.CONSTANT
    assert reuse.bound == 0.02


def test_settings_below_0_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Difference(threshold=-1)

"""Block maps: how block-sparse attention shows a probe which blocks of keys it attended to."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

import torch

from tadp.runtime.signals.declarations import At, signals_at
from tadp.runtime.signals.values import BlockSignals, Signals, columns_as_values


@runtime_checkable
class HasBlockMap(Protocol):
    """An attention module that shows its map.

    The attribute has to be there when the model is compiled, None until a forward sets it:

        class SparseAttention(torch.nn.Module):
            def __init__(self):
                self.block_map = None

            def forward(self, query, key, value):
                self.block_map, ... = get_block_map(query, key, ...)

    Attributes:
        block_map: of the last forward, ``(batch, heads, query blocks, key blocks)``, True or 1 where attended.
    """

    block_map: torch.Tensor | None


def read_block_maps(signals: Signals, modules: Iterable[tuple[str, HasBlockMap]]) -> Signals:
    """The signals of a forward, with the entropy of the maps that the modules of measured blocks show after it.

    Args:
        signals: of the forward that has just ended.
        modules: attention modules, each with its block's path; of several in a block, the first that has a map counts.
    """
    maps: dict[str, torch.Tensor] = {}
    measured = {block.piece for block in signals.blocks}
    for block, module in modules:
        if block in measured and module.block_map is not None:
            maps.setdefault(block, module.block_map)
    return (
        Signals(tuple(_with_map(block, maps.pop(block.piece, None)) for block in signals.blocks)) if maps else signals
    )


def _with_map(block: BlockSignals, block_map: torch.Tensor | None) -> BlockSignals:
    if block_map is None:
        return block
    for signal in signals_at(At.BLOCK_MAP):
        for column, values in columns_as_values(signal.name, signal.measure(block_map)).items():
            block = block.with_values(column, values)
    return block

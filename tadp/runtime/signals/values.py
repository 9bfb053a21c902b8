"""Signals as values: what a probe measured in each block, per sample of the batch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from tadp.precision import Recipe
from tadp.runtime.signals.measures import WIDTHS


@dataclass(frozen=True)
class BlockSignals:
    """The signals of one block; every tuple has one value per sample of the batch, and none where nothing is known.

    docs/signals.md has the formula and the cost of each.

    Attributes:
        piece: the block's name.
        entropy: normalised attention entropy of the first (self-)attention of the block.
        entropy_error: standard error of `entropy`, which is taken from a sample of the queries.
        block_map_entropy: of the blocks of keys that block-sparse attention attends to.
        kurtosis, skewness: by layer, of what the layer takes in.
        quantization_error: by layer and width in bits, relative error of rounding what the layer takes in.
        relative_change: of the block's output against its input.
        relative_change_delta: `relative_change` minus that of the step before, in the same guidance branch.
        shadow_error: by recipe, relative difference of the block's output if it had run at that recipe.
    """

    piece: str
    entropy: tuple[float, ...] = ()
    kurtosis: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    skewness: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    relative_change: tuple[float, ...] = ()
    entropy_error: tuple[float, ...] = ()
    block_map_entropy: tuple[float, ...] = ()
    quantization_error: Mapping[str, Mapping[int, tuple[float, ...]]] = field(default_factory=dict)
    relative_change_delta: tuple[float, ...] = ()
    shadow_error: Mapping[Recipe, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Signals:
    """The signals of one forward of the model.

    Attributes:
        blocks: block by block.
        guidance: of the forward that completes a pair of guidance branches, see `guidance_signals`; else empty.
    """

    blocks: tuple[BlockSignals, ...]
    guidance: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def not_finite(self) -> tuple[str, ...]:
        """Names of the blocks that a NaN or an infinity came out of."""
        return tuple(
            block.piece
            for block in self.blocks
            if not all(map(math.isfinite, (*block.relative_change, *block.entropy)))
        )


def with_deltas(signals: Signals, before: Signals) -> Signals:
    """The signals of a forward, with the difference of every block's relative change to that of the step before.

    Blocks that were not measured then, or in a batch of another size, get none.
    """
    known: dict[str, list[BlockSignals]] = {}
    for block in before.blocks:
        known.setdefault(block.piece, []).append(block)
    return Signals(
        tuple(
            _with_delta(block, known[block.piece].pop(0)) if known.get(block.piece) else block
            for block in signals.blocks
        )
    )


def _with_delta(block: BlockSignals, before: BlockSignals) -> BlockSignals:
    if len(block.relative_change) != len(before.relative_change):
        return block
    pairs = zip(block.relative_change, before.relative_change, strict=True)
    return replace(block, relative_change_delta=tuple(now - then for now, then in pairs))


def _columns(tensors: Sequence[torch.Tensor]) -> Iterator[tuple[float, ...]]:
    """The columns of ``(batch, values)`` tensors, one after the other; all cross from the device together."""
    if not tensors:
        return
    numbers = torch.cat([tensor.float().t().flatten() for tensor in tensors]).tolist()
    start = 0
    for batch, count in (tensor.shape for tensor in tensors):
        for _ in range(count):
            yield tuple(numbers[start : start + batch])
            start += batch


def read(
    piece: str,
    readings: Sequence[tuple[str, str, torch.Tensor]],
    shadows: Mapping[Recipe, torch.Tensor] | None = None,
) -> BlockSignals:
    """Turn what was measured in one block into its signals; waits for the device, once.

    Args:
        piece: the block's name.
        readings: kind, layer and ``(batch, values)`` tensor of each.
        shadows: by recipe, ``(batch, 1)``.

    Raises:
        ValueError: for a kind that is not known.
    """
    shadows = shadows or {}
    columns = _columns([*(values for _, _, values in readings), *shadows.values()])
    entropy: list[tuple[float, ...]] = []
    change: tuple[float, ...] = ()
    kurtosis: dict[str, tuple[float, ...]] = {}
    skewness: dict[str, tuple[float, ...]] = {}
    rounding: dict[str, Mapping[int, tuple[float, ...]]] = {}
    for kind, layer, _ in readings:
        if kind == "attention":
            entropy += [next(columns), next(columns)]
        elif kind == "moments":
            kurtosis[layer], skewness[layer] = next(columns), next(columns)
        elif kind == "rounding":
            rounding[layer] = {width: next(columns) for width in WIDTHS}
        elif kind == "change":
            change = next(columns)
        else:
            raise ValueError(f"unknown kind of reading {kind!r}")
    return BlockSignals(
        piece=piece,
        entropy=entropy[0] if entropy else (),
        entropy_error=entropy[1] if entropy else (),
        kurtosis=kurtosis,
        skewness=skewness,
        quantization_error=rounding,
        relative_change=change,
        shadow_error={recipe: next(columns) for recipe in shadows},
    )

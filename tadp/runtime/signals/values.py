"""Signals as values: what a probe measured in each block, per sample of the batch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from tadp.precision import Recipe
from tadp.runtime.signals.declarations import DELTA, column_of, columns_of

Values = tuple[float, ...]
"""One number for each sample of the batch; none where nothing is known."""


@dataclass(frozen=True)
class BlockSignals:
    """The signals of one block.

    ``block["entropy"]`` are the values of a column for the whole block, ``block.by_layer("kurtosis")`` those of each
    layer. `tadp.runtime.signals.declarations` has all columns.

    Attributes:
        piece: the block's name.
        values: by column and layer; "" is the layer of what is measured once for the block.
    """

    piece: str
    values: Mapping[tuple[str, str], Values] = field(default_factory=dict)

    def __getitem__(self, column: str) -> Values:
        return self.values.get((column, ""), ())

    def by_layer(self, column: str) -> dict[str, Values]:
        """The values of a column for each layer that has some."""
        return {layer: values for (name, layer), values in self.values.items() if name == column and layer}

    def by_name(self, column: str) -> dict[str, Values]:
        """The values of all columns that are called so up to a colon, by what stands behind it: widths, recipes."""
        found = {}
        for (name, layer), values in self.values.items():
            first, colon, rest = name.partition(":")
            if colon and first == column and not layer:
                found[rest] = values
        return found

    def with_values(self, column: str, values: Values) -> "BlockSignals":
        """The same with one column more for the whole block."""
        return replace(self, values={**self.values, (column, ""): values})


@dataclass(frozen=True)
class Signals:
    """The signals of one forward of the model.

    Attributes:
        blocks: block by block.
        guidance: by column, of the forward that completes a pair of guidance branches; else empty.
    """

    blocks: tuple[BlockSignals, ...]
    guidance: Mapping[str, Values] = field(default_factory=dict)

    def not_finite(self) -> tuple[str, ...]:
        """Names of the blocks that a NaN or an infinity came out of."""
        return tuple(
            block.piece
            for block in self.blocks
            if not all(map(math.isfinite, (*block["relative_change"], *block["entropy"])))
        )


def with_deltas(signals: Signals, before: Signals) -> Signals:
    """The signals of a forward, with the changes since the step before of the columns that are declared to have them.

    Blocks that were not measured then, or in a batch of another size, get none.
    """
    known: dict[str, list[BlockSignals]] = {}
    for block in before.blocks:
        known.setdefault(block.piece, []).append(block)
    return Signals(
        tuple(
            _with_deltas(block, known[block.piece].pop(0)) if known.get(block.piece) else block
            for block in signals.blocks
        )
    )


def _with_deltas(block: BlockSignals, before: BlockSignals) -> BlockSignals:
    changes: dict[tuple[str, str], Values] = {}
    for (name, layer), now in block.values.items():
        column, then = column_of(name), before.values.get((name, layer), ())
        if column is not None and column.delta and len(now) == len(then):
            changes[name + DELTA, layer] = tuple(a - b for a, b in zip(now, then, strict=True))
    return replace(block, values={**block.values, **changes}) if changes else block


def _columns(tensors: Sequence[torch.Tensor]) -> Iterator[list[Values]]:
    """The columns of each of some ``(batch, columns)`` tensors; all cross from the device together."""
    if not tensors:
        return
    numbers = torch.cat([tensor.float().t().flatten() for tensor in tensors]).tolist()
    start = 0
    for batch, count in (tensor.shape for tensor in tensors):
        yield [tuple(numbers[start + batch * index : start + batch * (index + 1)]) for index in range(count)]
        start += batch * count


def read(
    piece: str,
    readings: Sequence[tuple[str, str, torch.Tensor]],
    shadows: Mapping[Recipe, torch.Tensor] | None = None,
) -> BlockSignals:
    """Turn what was measured in one block into its signals; waits for the device, once.

    Args:
        piece: the block's name.
        readings: signal, layer and ``(batch, columns)`` tensor of each.
        shadows: by recipe, ``(batch, 1)``.

    Raises:
        ValueError: for a signal that is not declared.
    """
    shadows = shadows or {}
    columns = _columns([*(values for _, _, values in readings), *shadows.values()])
    found: dict[tuple[str, str], Values] = {}
    for (signal, layer, _), rows in zip(readings, columns, strict=False):
        for column, values in zip(columns_of(signal), rows, strict=False):
            found.setdefault((column.name, layer), values)
    (shadow,) = columns_of("shadow")
    for recipe, (values,) in zip(shadows, columns, strict=True):
        found[f"{shadow.name}:{recipe}", ""] = values
    return BlockSignals(piece, found)


def columns_as_values(signal: str, measured: torch.Tensor) -> dict[str, Values]:
    """The columns of what one measure gave outside of probes, by name."""
    rows = next(_columns([measured]))
    return {column.name: values for column, values in zip(columns_of(signal), rows, strict=False)}

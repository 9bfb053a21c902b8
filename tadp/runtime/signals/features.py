"""What a probe measured, as a handful of numbers that may predict what quantizing will cost."""

import math
from collections.abc import Collection, Iterator, Sequence

from tadp.runtime.signals.declarations import column_of
from tadp.runtime.signals.values import Signals, Values


def features(signals: Sequence[Signals], blocks: Collection[str] | None = None) -> dict[str, float]:
    """One number per column, over layers, samples and forwards of a probe, and over `blocks`; None for all measured.

    Blocks differ from each other by more than contents do: only features over the same blocks compare.

    The declaration of a column says how its values are summarised, and whether only their size counts, as it does for
    changes since the step before. Names have their width or recipe in them: ``quantization_error:6``,
    ``shadow_error:6``. Values that are not finite, and columns without any other, are left out.
    """
    found: dict[str, list[float]] = {}
    for forward in signals:
        for name, values in _named(forward, blocks):
            found.setdefault(name, []).extend(value for value in values if math.isfinite(value))
    summaries = {}
    for name, known in found.items():
        column = column_of(name)
        if column is None or column.summary is None or not known:
            continue
        size_only = column.size_only or (column.delta and name != column.name)
        summaries[name] = float(column.summary([abs(value) for value in known] if size_only else known))
    return summaries


def _named(forward: Signals, blocks: Collection[str] | None) -> Iterator[tuple[str, Values]]:
    yield from forward.guidance.items()
    for block in forward.blocks:
        if blocks is None or block.piece in blocks:
            for (name, _), values in block.values.items():
                yield name, values

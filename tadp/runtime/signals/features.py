"""What a probe measured, as a handful of numbers that may predict what quantizing will cost."""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from statistics import fmean, median

from tadp.runtime.signals.values import BlockSignals, Signals

_MEDIANS = ("kurtosis", "skewness")


def features(signals: Sequence[Signals], blocks: Collection[str] | None = None) -> dict[str, float]:
    """One number per signal, over layers, samples and forwards of a probe, and over `blocks`; None for all measured.

    Blocks differ from each other by more than contents do: only features over the same blocks compare.

    Means; of kurtosis and skewness medians, as single layers with outliers would hide the others. Of skewness and the
    change of the relative change only the size counts. Errors have their width or recipe in their name:
    ``quantization_error:6``, ``shadow_error:6``. Values that are not finite, and signals without any other, are left
    out.
    """
    found: dict[str, list[float]] = {}
    for forward in signals:
        for name, values in _named(forward, blocks):
            found.setdefault(name, []).extend(value for value in values if math.isfinite(value))
    return {name: median(found[name]) if name in _MEDIANS else fmean(found[name]) for name in found if found[name]}


def _named(forward: Signals, blocks: Collection[str] | None) -> Iterator[tuple[str, Iterable[float]]]:
    yield from forward.guidance.items()
    for block in forward.blocks:
        if blocks is None or block.piece in blocks:
            yield from _named_of_block(block)


def _named_of_block(block: BlockSignals) -> Iterator[tuple[str, Iterable[float]]]:
    yield "entropy", block.entropy
    yield "block_map_entropy", block.block_map_entropy
    yield "relative_change", block.relative_change
    yield "relative_change_delta", map(abs, block.relative_change_delta)
    for kurtosis in block.kurtosis.values():
        yield "kurtosis", kurtosis
    for skewness in block.skewness.values():
        yield "skewness", map(abs, skewness)
    for by_width in block.quantization_error.values():
        for width, errors in by_width.items():
            yield f"quantization_error:{width}", errors
    for recipe, errors in block.shadow_error.items():
        yield f"shadow_error:{recipe}", errors

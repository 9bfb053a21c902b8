"""What a probe measured, as a handful of numbers that may predict what quantizing will cost."""

import math
from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean, median

from tadp.runtime.signals import BlockSignals, Signals


def features(signals: Sequence[Signals]) -> dict[str, float]:
    """One number per signal, over all blocks, layers, samples and forwards of a probe; those not measured are left out.

    Means, but medians of kurtosis and skewness, as single layers with outliers would hide the others, and of skewness
    and the change of the relative change their size alone. Errors have their width or recipe in their name:
    ``quantization_error:6``, ``shadow_error:6``.
    """
    blocks = [block for forward in signals for block in forward.blocks]
    found = {
        "entropy": _mean(value for block in blocks for value in block.entropy),
        "block_map_entropy": _mean(value for block in blocks for value in block.block_map_entropy),
        "kurtosis": _median(value for block in blocks for values in block.kurtosis.values() for value in values),
        "skewness": _median(abs(value) for block in blocks for values in block.skewness.values() for value in values),
        "relative_change": _mean(value for block in blocks for value in block.relative_change),
        "relative_change_delta": _mean(abs(value) for block in blocks for value in block.relative_change_delta),
    }
    errors: dict[str, list[float]] = {}
    for block in blocks:
        for name, values in _errors(block):
            errors.setdefault(name, []).extend(values)
    found |= {name: _mean(values) for name, values in sorted(errors.items())}
    return {name: value for name, value in found.items() if value is not None}


def _errors(block: BlockSignals) -> Iterator[tuple[str, tuple[float, ...]]]:
    for by_width in block.quantization_error.values():
        for width, values in by_width.items():
            yield f"quantization_error:{width}", values
    for recipe, values in block.shadow_error.items():
        yield f"shadow_error:{recipe}", values


def _mean(values: Iterable[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return fmean(finite) if finite else None


def _median(values: Iterable[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return median(finite) if finite else None

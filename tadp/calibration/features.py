"""What a probe measured, as a handful of numbers that may predict what quantizing will cost."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from statistics import fmean, median

from tadp.runtime.signals import BlockSignals, Signals, averages
from tadp.runtime.signals.values import finite


def features(signals: Sequence[Signals]) -> dict[str, float]:
    """One number per signal, over all blocks, layers, samples and forwards of a probe; those not measured are left out.

    Those of `averages`, and means of the other signals; of skewness the median, as of kurtosis. Of skewness and the
    change of the relative change only the size counts. Errors have their width or recipe in their name:
    ``quantization_error:6``, ``shadow_error:6``.
    """
    found = {name: value for name, value in asdict(averages(signals)).items() if value is not None}
    others: dict[str, list[float]] = {}
    for forward in signals:
        for block in forward.blocks:
            for name, values in _others(block):
                others.setdefault(name, []).extend(finite(values))
    for name, numbers in others.items():
        if numbers:
            found[name] = median(numbers) if name == "skewness" else fmean(numbers)
    return found


def _others(block: BlockSignals) -> Iterator[tuple[str, Iterable[float]]]:
    """The signals of a block that `averages` leaves out."""
    yield "block_map_entropy", block.block_map_entropy
    yield "relative_change_delta", map(abs, block.relative_change_delta)
    for skewness in block.skewness.values():
        yield "skewness", map(abs, skewness)
    for by_width in block.quantization_error.values():
        for width, errors in by_width.items():
            yield f"quantization_error:{width}", errors
    for recipe, errors in block.shadow_error.items():
        yield f"shadow_error:{recipe}", errors

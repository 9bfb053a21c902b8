"""All signals, each declared once: where it is measured, by what, what its columns are and what becomes of them.

The probe pass, the history, features of the score, the report and docs/signals.md go over these declarations. A new
signal is a measure in measures.py and an entry here, or a call of `register`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from statistics import fmean, median

import torch

from tadp.runtime.signals.guidance import guidance_measure
from tadp.runtime.signals.measures import (
    WIDTHS,
    activation_moments,
    attention_entropy,
    block_map_entropy,
    quantization_error,
    relative_change,
)


class At(str, Enum):
    """Where a signal is measured, and so what its measure is given.

    The first three lie inside a block's compiled probe; a measure there must be one function of measures.py, or of any
    other file that calls nothing outside it: compiled probes are kept on disk under the hash of that file.
    """

    ATTENTION = "attention"
    """Query, key, mask and scale (None where not given) of the block's first attention product."""
    LINEAR_INPUT = "linear-input"
    """What a linear layer takes in, for every such tensor once, ``(batch, ..., channels)``."""
    BLOCK = "block"
    """The block's input and output, ``(batch, tokens, dim)``."""
    BLOCK_MAP = "block-map"
    """The map of block-sparse attention, where a module shows one."""
    GUIDANCE = "guidance"
    """The model's predictions with and without the prompt."""
    SHADOW = "shadow"
    """The block's output, and the one that another recipe gives; a column for each recipe."""


@dataclass(frozen=True)
class Column:
    """One number of a signal, for each sample of the batch.

    Attributes:
        name: as in the history and in features. What a name adds behind a colon says of which width or recipe.
        doc: what it is, in a few words.
        summary: makes one feature of all its values; None where it is no feature.
        size_only: whether only the size counts in the feature.
        shown: its name in the report; "" where the report leaves it out. Of several layers the highest is shown.
        delta: whether its change since the step before is a column too, called NAME_delta.
    """

    name: str
    doc: str
    summary: Callable[[list[float]], float] | None = fmean
    size_only: bool = False
    shown: str = ""
    delta: bool = False


@dataclass(frozen=True)
class Signal:
    """What one measure measures.

    Attributes:
        name: of the signal.
        at: where it is measured.
        measure: gives ``(batch, columns)``; it may leave out the last columns.
        columns: what its numbers are.
        sampled: what it looks at, for the docs.
    """

    name: str
    at: At
    measure: Callable[..., torch.Tensor]
    columns: tuple[Column, ...]
    sampled: str


SIGNALS: list[Signal] = [
    Signal(
        "attention",
        At.ATTENTION,
        attention_entropy,
        (
            Column("entropy", "entropy of self-attention", shown="entropy"),
            Column("entropy_error", "standard error of `entropy`", summary=None),
        ),
        "64 queries, all heads and keys",
    ),
    Signal(
        "moments",
        At.LINEAR_INPUT,
        activation_moments,
        (
            # Medians, as single layers with outliers would hide the others.
            Column("kurtosis", "kurtosis of the input of each linear layer", median, shown="kurtosis"),
            Column("skewness", "skewness of the same", median, size_only=True),
        ),
        "128 tokens, all channels",
    ),
    Signal(
        "rounding",
        At.LINEAR_INPUT,
        quantization_error,
        tuple(
            Column(
                f"quantization_error:{width}",
                f"relative error of rounding the input of each linear layer to {width} bits",
                shown="quantization error" if width == 8 else "",
            )
            for width in WIDTHS
        ),
        "the same tokens",
    ),
    Signal(
        "change",
        At.BLOCK,
        relative_change,
        (Column("relative_change", "how much the block changes its input", shown="relative change", delta=True),),
        "everything",
    ),
    Signal(
        "block_map",
        At.BLOCK_MAP,
        block_map_entropy,
        (Column("block_map_entropy", "entropy of the choice of blocks in block-sparse attention"),),
        "the whole map",
    ),
    Signal(
        "shadow",
        At.SHADOW,
        relative_change,
        (Column("shadow_error", "how much the block's output differs at another recipe", shown="shadow error"),),
        "everything",
    ),
    Signal(
        "guidance",
        At.GUIDANCE,
        guidance_measure,
        (
            Column(
                "guidance_gap", "size of the difference of both predictions, relative to the one without the prompt"
            ),
            Column("guidance_spread", "share of the clip that the difference is spread over (participation ratio)"),
            Column("guidance_motion", "size of the difference's changes from frame to frame, relative to its own size"),
        ),
        "everything",
    ),
]
"""In the order in which probes measure them."""


def register(signal: Signal) -> Signal:
    """Declare a signal. Probes that are compiled from then on measure it.

    Raises:
        ValueError: where the signal or one of its columns has a name that is taken.
    """
    taken = {known.name for known in SIGNALS} | {column.name for known in SIGNALS for column in known.columns}
    names = [signal.name, *(column.name for column in signal.columns)]
    if found := next((name for name in names if name in taken), None):
        raise ValueError(f"a signal or column is called {found!r} already")
    SIGNALS.append(signal)
    return signal


def signals_at(*places: At) -> tuple[Signal, ...]:
    """The signals that are measured at some places, in the order in which probes measure them."""
    return tuple(signal for signal in SIGNALS if signal.at in places)


def columns_of(signal: str) -> tuple[Column, ...]:
    """The columns of a signal.

    Raises:
        ValueError: where no signal has that name.
    """
    for known in SIGNALS:
        if known.name == signal:
            return known.columns
    raise ValueError(f"unknown signal {signal!r}; declared are {', '.join(known.name for known in SIGNALS)}")


def column_of(name: str) -> Column | None:
    """The declaration behind a name in a history: of the column, or of the one that a colon or "_delta" is added to."""
    declared = {column.name: column for signal in SIGNALS for column in signal.columns}
    for candidate in (name, name.partition(":")[0], name.removesuffix(DELTA)):
        if candidate in declared:
            return declared[candidate]
    return None


DELTA = "_delta"
"""Behind a column's name: its change since the step before."""

"""Signals: what a probe measures inside a block, per sample of the batch, and how readings become values."""

from tadp.runtime.signals.block_maps import HasBlockMap, read_block_maps
from tadp.runtime.signals.declarations import SIGNALS, At, Column, Signal, columns_of, register, signals_at
from tadp.runtime.signals.features import features
from tadp.runtime.signals.guidance import guidance_measure, prediction_of
from tadp.runtime.signals.measures import (
    activation_moments,
    attention_entropy,
    block_map_entropy,
    quantization_error,
    relative_change,
)
from tadp.runtime.signals.values import BlockSignals, Signals, columns_as_values, read, with_deltas

__all__ = [
    "SIGNALS",
    "At",
    "BlockSignals",
    "Column",
    "HasBlockMap",
    "Signal",
    "Signals",
    "activation_moments",
    "attention_entropy",
    "block_map_entropy",
    "columns_as_values",
    "columns_of",
    "features",
    "guidance_measure",
    "prediction_of",
    "quantization_error",
    "read",
    "read_block_maps",
    "register",
    "relative_change",
    "signals_at",
    "with_deltas",
]

"""Signals: what a probe measures inside a block, per sample of the batch, and how readings become values."""

from tadp.runtime.signals.block_maps import HasBlockMap, read_block_maps
from tadp.runtime.signals.features import features
from tadp.runtime.signals.guidance import guidance_signals, prediction_of
from tadp.runtime.signals.measures import (
    activation_moments,
    attention_entropy,
    block_map_entropy,
    quantization_error,
    relative_change,
)
from tadp.runtime.signals.values import BlockSignals, Signals, read, with_deltas

__all__ = [
    "BlockSignals",
    "HasBlockMap",
    "Signals",
    "activation_moments",
    "attention_entropy",
    "block_map_entropy",
    "features",
    "guidance_signals",
    "prediction_of",
    "quantization_error",
    "read",
    "read_block_maps",
    "relative_change",
    "with_deltas",
]

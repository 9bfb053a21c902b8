"""Passes from a captured graph to compiled variants: settle, normalize, annotate, partition, quantize, probe, lower."""

from tadp.passes.annotate import annotate
from tadp.passes.calls import calls_in
from tadp.passes.lower import Guards, Lowered, lower
from tadp.passes.normalize import normalize
from tadp.passes.partition import partition
from tadp.passes.probe import Measures, Probed, Reading, probe
from tadp.passes.quantize import quantize
from tadp.passes.symbols import UnknownSizesError, at_sizes, closed, settle, sizes_of

__all__ = [
    "Guards",
    "Lowered",
    "Measures",
    "Probed",
    "Reading",
    "UnknownSizesError",
    "annotate",
    "at_sizes",
    "calls_in",
    "closed",
    "lower",
    "normalize",
    "partition",
    "probe",
    "quantize",
    "settle",
    "sizes_of",
]

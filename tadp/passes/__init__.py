"""Passes from a captured graph to compiled variants: normalize, annotate, partition, quantize, probe, lower."""

from tadp.passes.annotate import annotate
from tadp.passes.calls import calls_in
from tadp.passes.lower import lower
from tadp.passes.normalize import normalize
from tadp.passes.partition import partition
from tadp.passes.probe import Measures, Probed, Reading, probe
from tadp.passes.quantize import quantize

__all__ = [
    "Measures",
    "Probed",
    "Reading",
    "annotate",
    "calls_in",
    "lower",
    "normalize",
    "partition",
    "probe",
    "quantize",
]

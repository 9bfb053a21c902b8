"""How a benchmark on a GPU goes from shape to shape: until its time is spent, with what is measured on disk at once."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.kernels.floors import Peaks, peaks_of
from bench.record import record, write

Measure = Callable[[Any, Peaks | None, float], list[dict[str, object]]]
"""Rows of a shape on a GPU of these peaks, timed for so many seconds."""


def run_shapes(name: str, wanted: Sequence[Any], measure: Measure, path: Path, seconds: float) -> None:
    """Measure shapes, tuples of numbers, in order; none is started after so many seconds."""
    device = torch.cuda.get_device_name()
    peaks = peaks_of(device)
    deadline = time.perf_counter() + seconds
    rows: list[dict[str, object]] = []
    facts: dict[str, object] = {"peaks": "by data sheet, dense" if peaks else f"not known for {device}"}
    left = list(wanted)
    try:
        for shape in wanted:
            if time.perf_counter() > deadline:
                break
            print("x".join(map(str, shape)), flush=True)
            rows += measure(shape, peaks, seconds / len(wanted) / 4)
            left.remove(shape)
            facts["not measured"] = "; ".join("x".join(map(str, each)) for each in left) or "nothing"
            write(name, rows, path, **facts)
    finally:
        if rows:
            record(name, rows, path, **facts)

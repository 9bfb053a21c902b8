"""Each signal over blocks and steps, for a simple and a complex prompt; part of bench.models.signals."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from matplotlib.figure import Figure

import tadp
from bench.models.model import GENERATION, demo_pipeline
from bench.models.probing import Probing
from tadp.runtime.record import StepRecord
from tadp.runtime.signals import BlockSignals
from tadp.writing import replacing

PROMPTS = (
    "a red circle stands still on a black background",
    "a green circle orbits, a small purple star moves left, a large orange triangle bounces, a white square grows "
    "and a cyan circle moves down on a checkered background",
)

SIGNALS: dict[str, Callable[[BlockSignals], Sequence[float]]] = {
    "attention entropy": lambda block: block["entropy"],
    "kurtosis, highest layer": lambda block: [max(map(fmean, block.by_layer("kurtosis").values()))],
    "skewness, largest": lambda block: [max(map(fmean, block.by_layer("skewness").values()), key=abs)],
    "quantization error, 8 bits": lambda block: [max(map(fmean, block.by_layer("quantization_error:8").values()))],
    "quantization error, 4 bits": lambda block: [max(map(fmean, block.by_layer("quantization_error:4").values()))],
    "relative change": lambda block: block["relative_change"],
    "its change": lambda block: block["relative_change_delta"],
    "shadow error, 6 bits": lambda block: block["shadow_error:6"],
}


def draw(path: Path) -> None:
    """Measure all blocks in all steps at 8 bits and write the figure."""
    pipeline = tadp.compile(demo_pipeline(), policy=Probing(shadow_budget=1.0), calibration=None)
    found = []
    for prompt in PROMPTS:
        before = pipeline.tadp.clock.generation
        pipeline(prompt, generator=torch.Generator().manual_seed(0), **GENERATION | {"output_type": "latent"})
        found.append([record for record in pipeline.tadp.history if record.generation > before])
    figure = Figure(figsize=(2.4 * len(SIGNALS), 5.4), layout="constrained")
    axes = figure.subplots(len(PROMPTS), len(SIGNALS), squeeze=False)
    for column, (name, signal) in enumerate(SIGNALS.items()):
        tables = [_table(records, signal) for records in found]
        low, high = np.nanmin(tables), np.nanmax(tables)
        for row, table in enumerate(tables):
            panel = axes[row, column]
            image = panel.imshow(table, aspect="auto", vmin=low, vmax=high, extent=_extent(table))
            panel.set(title=name if row == 0 else "", xlabel="step" if row else "")
            panel.set_ylabel(f"{('simple', 'complex')[row]} prompt: block" if column == 0 else "")
        figure.colorbar(image, ax=axes[:, column], location="bottom", shrink=0.9)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _table(records: Sequence[StepRecord], signal: Callable[[BlockSignals], Sequence[float]]) -> np.ndarray:
    """``(blocks, steps)``, means over samples and guidance branches; NaN where nothing was measured."""
    cells: dict[tuple[str, int], list[float]] = {}
    for record in records:
        for block in record.signals.blocks if record.signals is not None else ():
            cells.setdefault((block.piece, record.step), []).extend(signal(block))
    blocks = list(dict.fromkeys(piece for piece, _ in cells))
    steps = sorted({step for _, step in cells})
    return np.array(
        [[fmean(values) if (values := cells.get((block, step))) else np.nan for step in steps] for block in blocks]
    )


def _extent(table: np.ndarray) -> tuple[float, float, float, float]:
    """Steps count from 1, blocks from 0, downwards."""
    blocks, steps = table.shape
    return 0.5, steps + 0.5, blocks - 0.5, -0.5

"""The loss curve of a training run, from its log."""

import json
from pathlib import Path

from tadp.extras import need
from tadp.writing import replacing


def plot_training(log: Path, picture: Path, loss: str = "flow-matching loss") -> None:
    """Draw loss over steps, one colour a clip size, and write it as a PNG; `loss` names the axis."""
    need("matplotlib", "cli", "the picture of a training run needs matplotlib")
    from matplotlib.figure import Figure

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    for size in sorted({line["size"] for line in lines}):
        chosen = [line for line in lines if line["size"] == size]
        label = f"clips of {size:.0f}x{size:.0f}"
        axes.plot([line["step"] for line in chosen], [line["loss"] for line in chosen], label=label)
    axes.set(xlabel="step", ylabel=loss, yscale="log")
    axes.grid(alpha=0.3, which="both")
    axes.legend(frameon=False)
    with replacing(picture) as temporary:
        figure.savefig(temporary, dpi=120)

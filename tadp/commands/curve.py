"""`tadp curve`: what quality is left at which speed, predicted from a calibration."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from tadp.commands.errors import InputError
from tadp.commands.settings import Settings
from tadp.files.calibration import load
from tadp.planning.calibration import Calibration
from tadp.planning.curve import Point, curve_of
from tadp.report.files import replacing

SCORES = {0.1: "simple", 0.5: "medium", 0.9: "complex"}
_COLORS = ("#8cc9a1", "#3d8bbd", "#1f3a5f")


def curve(settings: Settings) -> int:
    """Print and draw the quality-speed curve of simple, medium and complex content.

    Returns:
        The exit code.

    Raises:
        InputError: for a calibration that cannot be read.
    """
    assert settings.calibration is not None  # the command line asks for it
    try:
        calibration = load(settings.calibration)
    except ValueError as error:
        raise InputError(str(error)) from error
    curves = {score: curve_of(calibration.costs, score) for score in SCORES}
    table = Table(title="predicted quality over time")
    for column in ("content", "s", "PSNR, dB", "blocks below 16 bits"):
        table.add_column(column)
    for score, points in curves.items():
        for point in points:
            table.add_row(SCORES[score], f"{point.seconds:.2f}", f"{point.psnr:.1f}", f"{point.lowered:.0%}")
    console = Console()
    console.print(table)
    path = settings.out / "curve.png"
    draw(path, calibration, curves)
    console.print(f"drawn to {path}", highlight=False)
    return 0


def draw(path: Path, calibration: Calibration, curves: Mapping[float, Sequence[Point]]) -> None:
    """Write the curves as a .png, with the static plans of the lookup table as points."""
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        for (score, points), color in zip(curves.items(), _COLORS, strict=True):
            label = f"{SCORES[score]}, score {score:g}"
            axes.plot([p.seconds for p in points], [p.psnr for p in points], color=color, label=label, marker=".")
            for row in calibration.table:
                axes.plot(row.seconds, row.damage.psnr(score), color=color, marker="x", linestyle="")
        for row in calibration.table:
            axes.annotate(row.policy, (row.seconds, row.damage.psnr(min(SCORES))), fontsize=7, rotation=30)
        axes.set_xlabel("seconds of a generation")
        axes.set_ylabel("predicted PSNR against 16 bits, dB")
        axes.legend(frameon=False)
        with replacing(path) as partial:
            figure.savefig(partial, format="png", dpi=120)

"""`tadp curve`: what quality is left at which speed, predicted from a calibration."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tadp.commands.errors import InputError
from tadp.files.calibration import load
from tadp.planning.calibration import Calibration
from tadp.planning.curve import Point, curve_of
from tadp.report.console import console, table
from tadp.report.plot import need_matplotlib
from tadp.writing import replacing

SCORES = {0.1: "simple", 0.5: "medium", 0.9: "complex"}
_COLORS = ("#8cc9a1", "#3d8bbd", "#1f3a5f")


def curve(calibration: Path, out: Path) -> int:
    """Print and draw the quality-speed curve of simple, medium and complex content.

    Args:
        calibration: the file that `tadp calibrate` wrote.
        out: a directory for the picture.

    Returns:
        The exit code.

    Raises:
        InputError: for a calibration that cannot be read.
    """
    try:
        measured = load(calibration)
    except ValueError as error:
        raise InputError(str(error)) from error
    curves = {score: curve_of(measured.costs, score) for score in SCORES}
    points_of = table("predicted quality over time", "content", "s", "PSNR, dB", "blocks below 16 bits")
    for score, points in curves.items():
        for point in points:
            points_of.add_row(SCORES[score], f"{point.seconds:.2f}", f"{point.psnr:.1f}", f"{point.lowered:.0%}")
    console().print(points_of)
    path = out / "curve.png"
    draw(path, measured, curves)
    console().print(f"drawn to {path}", highlight=False)
    return 0


def draw(path: Path, calibration: Calibration, curves: Mapping[float, Sequence[Point]]) -> None:
    """Write the curves as a .png, with the static plans of the lookup table as points.

    Raises:
        MissingExtraError: without matplotlib.
    """
    matplotlib = need_matplotlib()
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(7, 4.5), layout="constrained")
        axes = figure.subplots()
        for (score, points), color in zip(curves.items(), _COLORS, strict=True):
            label = f"{SCORES[score]}, score {score:g}"
            axes.plot([p.seconds for p in points], [p.psnr for p in points], color=color, label=label, marker=".")
            for row in calibration.table:
                axes.plot(row.seconds, row.error.psnr(score), color=color, marker="x", linestyle="")
        for row in calibration.table:
            axes.annotate(row.policy, (row.seconds, row.error.psnr(min(SCORES))), fontsize=7, rotation=30)
        axes.set_xlabel("seconds of a generation")
        axes.set_ylabel("predicted PSNR against 16 bits, dB")
        axes.legend(frameon=False)
        with replacing(path) as partial:
            figure.savefig(partial, format="png", dpi=120)

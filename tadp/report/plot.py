"""plan.png: which piece ran at which level in which step, beside the score and the signals that led to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadp.complexity.score import Score
from tadp.complexity.text import TextScore
from tadp.extras import need
from tadp.precision import L0, Level, Recipe
from tadp.report.run import Run, block_signals, recipe_levels
from tadp.report.table import shorten
from tadp.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVEL_COLORS: Mapping[str, str] = {
    "16": "#1f3a5f",
    "8": "#3d8bbd",
    "6": "#8cc9a1",
    "4": "#f2d16b",
    "7m": "#65aaaf",
    "6m": "#8cc9a1",
    "5m": "#bfcd86",
    "w8a16": "#6d5a9c",
    "w6a16": "#a08fc4",
    "w4a16": "#d3c7e6",
    "0": "#f3f1ea",
}
"""Dark is wide, light is narrow; mixed levels lie between, and those with 16-bit activations are the purple row. What
is reused is nearly white.
"""
_OTHER_COLOR = "#b8b8b8"
_SIGNALS = {
    "entropy": "attention entropy",
    "kurtosis": "kurtosis (highest layer)",
    "relative change": "relative change",
    "quantization error": "error at 8 bits (highest)",
    "shadow error": "shadow error",
}
_STEP_COLORS = ("#c0392b", "#e8a33d", "#7f8c8d", "#2c3e50")
_BAR_INCHES = 0.34
_LEGEND_INCHES = 0.3  # from the axis down to its legend
_SCORE_COLORS = {True: "#1f3a5f", False: "#9fb6cd"}
_DEFAULT_SHARE = 0.62  # of a cell's height, where other levels share the rest


def need_matplotlib() -> Any:
    """The module that draws.

    Raises:
        MissingExtraError: without matplotlib.
    """
    return need("matplotlib", "cli", "pictures of plans and curves need matplotlib")


def draw_plan(
    path: Path, prompt: str, run: Run, text_score: TextScore | None, thresholds: tuple[float, ...] = ()
) -> None:
    """Draw a run's plan and write it as a .png.

    Args:
        path: Where the picture goes.
        prompt: What was asked; shortened in the title.
        run: The run to show.
        text_score: The text score of the prompt; None where there is none.
        thresholds: Scores at which the policy changes the level, drawn as lines.

    Raises:
        MissingExtraError: without matplotlib.
    """
    matplotlib = need_matplotlib()
    from matplotlib.figure import Figure

    cells = _cells(run)
    pieces = list(dict.fromkeys(piece for piece, _ in cells))
    steps = sorted({step for _, step in cells}) or [1]
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        height = min(max(3.6, 1.9 + 0.24 * len(pieces)), 16.0)
        figure = Figure(figsize=(18.5, height), layout="constrained")
        figure.suptitle(f"{shorten(prompt, 100)}\npolicy {run.policy}", x=0.01, ha="left", fontsize=11)
        plan, *signals, scores = figure.subplots(1, 2 + len(_SIGNALS), width_ratios=(5.2, *[1.5] * len(_SIGNALS), 2.4))
        _draw_cells(plan, cells, pieces, steps)
        _draw_signals(dict(zip(_SIGNALS, signals, strict=True)), run, pieces)
        _draw_score(scores, run.score, text_score, thresholds)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=120)


def _cells(run: Run) -> dict[tuple[str, int], Recipe]:
    """The recipe of each piece in each step; guidance branches of a step share a plan, the first one is shown."""
    cells: dict[tuple[str, int], Recipe] = {}
    for module, step, record in run.records():
        for piece, recipe in record.plan:
            cells.setdefault((run.piece_name(module, piece), step), recipe)
    return cells


def _draw_cells(axes: "Axes", cells: Mapping[tuple[str, int], Recipe], pieces: list[str], steps: list[int]) -> None:
    from matplotlib.patches import Patch, Rectangle
    from matplotlib.ticker import MaxNLocator

    used: set[Level] = set()
    for (piece, step), recipe in cells.items():
        levels = recipe_levels(recipe)
        used.update(levels)
        rest = len(levels) - 1
        shares = [_DEFAULT_SHARE] + [(1 - _DEFAULT_SHARE) / rest] * rest if rest else [1.0]
        top = pieces.index(piece) - 0.5
        for level, share in zip(levels, shares, strict=True):
            axes.add_patch(Rectangle((step - 0.5, top), 1, share, facecolor=_color(level), edgecolor="none"))
            top += share
    for row in range(len(pieces) + 1):
        axes.axhline(row - 0.5, color="white", linewidth=1.2)
    for step in range(steps[0], steps[-1] + 2):
        axes.axvline(step - 0.5, color="white", linewidth=0.8)
    axes.set(xlim=(steps[0] - 0.5, steps[-1] + 0.5), ylim=(max(len(pieces), 1) - 0.5, -0.5))
    axes.set_xlabel("sampling step", loc="right")
    axes.set_title("level of each piece", loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    _label_pieces(axes, pieces, names=True)
    if not pieces:
        axes.text(0.5, 0.5, "no step was recorded", ha="center", va="center", transform=axes.transAxes)
        return
    entries = [Patch(facecolor=_color(level), label=_bits(level)) for level in sorted(used, reverse=True)]
    axes.legend(
        handles=entries,
        loc="upper left",
        bbox_to_anchor=(0, -_LEGEND_INCHES / _inches(axes)),
        ncols=len(entries),
        frameon=False,
    )
    axes.spines[:].set_visible(False)


def _draw_signals(panels: Mapping[str, "Axes"], run: Run, pieces: list[str]) -> None:
    from matplotlib.ticker import MaxNLocator

    by_step = block_signals(run)
    for name, axes in panels.items():
        for index, (step, values) in enumerate(by_step.items()):
            points = [(values[piece][name], row) for row, piece in enumerate(pieces) if name in values.get(piece, {})]
            if points:
                color = _STEP_COLORS[index % len(_STEP_COLORS)]
                axes.plot(
                    *zip(*points, strict=True), "o-", color=color, markersize=3.5, linewidth=1, label=f"step {step}"
                )
        axes.set_title(_SIGNALS[name], loc="left")
        axes.set_ylim(max(len(pieces), 1) - 0.5, -0.5)
        _label_pieces(axes, pieces, names=False)
        axes.grid(axis="y", color="#eeeeee")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=3))
        if axes.lines and name == "entropy":
            axes.legend(
                loc="upper left", bbox_to_anchor=(0, -_LEGEND_INCHES / _inches(axes)), frameon=False, handlelength=1.2
            )
        elif not axes.lines:
            axes.set_xticks([])
            axes.text(0.5, 0.5, "not measured", ha="center", va="center", color="#888888", transform=axes.transAxes)


def _draw_score(axes: "Axes", score: Score | None, text_score: TextScore | None, thresholds: tuple[float, ...]) -> None:
    bars: dict[str, float | None] = {"score": None, "text": text_score.total if text_score is not None else None}
    if score is not None:
        bars = {"score": score.total, "text": score.text, "image": score.image, "feature": score.feature}
    bars |= {f"text: {part}": getattr(text_score, part, None) for part in ("entity", "spatial", "temporal")}
    known = {name: value for name, value in bars.items() if value is not None}
    axes.barh(list(known), list(known.values()), color=[_SCORE_COLORS[name == "score"] for name in known], height=0.62)
    for row, value in enumerate(known.values()):
        axes.text(value + 0.02, row, f"{value:.2f}", va="center")
    for threshold in thresholds:
        axes.axvline(threshold, color="#c0392b", linewidth=0.9, linestyle=":", zorder=0)
    rows = max(len(known), _inches(axes) / _BAR_INCHES)  # bars keep their size however tall the picture is
    axes.set(xlim=(0, 1.15), ylim=(rows - 0.4, -0.6))
    axes.set_xticks([0, *thresholds, 1])
    axes.tick_params(axis="y", length=0)
    axes.set_title("complexity, 0 to 1", loc="left")
    if thresholds:
        axes.set_xlabel("dotted: where the policy changes levels")


def _inches(axes: "Axes") -> float:
    """Height of the axes, before the layout makes its last small changes."""
    return float(axes.bbox.height / axes.figure.dpi)


def _label_pieces(axes: "Axes", pieces: list[str], names: bool) -> None:
    # At most some forty labels can be read one below the other.
    every = -(-len(pieces) // 40) or 1
    rows = range(0, len(pieces), every)
    axes.set_yticks(list(rows), [pieces[row] if names else "" for row in rows])
    axes.tick_params(axis="y", length=0)


def _color(level: Level) -> str:
    return LEVEL_COLORS.get(str(level), _OTHER_COLOR)


def _bits(level: Level) -> str:
    if level == L0:
        return "reused"
    if level.mixed:
        return f"{level.weight} bits, mixed"
    return f"{level.weight}-bit weights only" if level.activation == 16 != level.weight else f"{level.weight} bits"

"""Tables and picture of the proof."""

import string
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.quality.correlation import interval, spearman
from bench.quality.proof.analysis import (
    THIRDS,
    Found,
    above_best_mix,
    decibels,
    of_mean_error,
    qualities,
    read,
    spread,
    tail,
)
from bench.quality.proof.settings import ALL, BASELINE, REFERENCE
from bench.record import markdown, record

MARKER = "<!-- tables: written by python -m bench.quality.proof, nothing below is edited by hand -->"
COLORS = {
    "static": "#7f8c8d",
    "fewer steps": "#2980b9",
    "cache": "#8e44ad",
    "adaptive": "#d68910",
    "tadp": "#c0392b",
}


def table_of_settings(found: Found) -> list[dict[str, object]]:
    """A row per setting."""
    return [
        {
            "setting": setting.name,
            f"time, x {BASELINE}": float(found.seconds[setting.name].mean()),
            "block runs": float(found.run[setting.name].mean()),
            **qualities(found.mse[setting.name]),
            "temporal error": float(found.temporal_error[setting.name].mean()),
            "alignment - that of 16 bits": float((found.alignment[setting.name] - found.alignment[REFERENCE]).mean()),
        }
        for setting in found.settings
    ]


def against_mixes(found: Found) -> list[dict[str, object]]:
    """Each of ours against the best mix of two rivals that takes as long."""
    everything = np.arange(len(found.prompts))
    rows = []
    for setting in found.ours:
        row: dict[str, object] = {
            "setting": setting.name,
            f"time, x {BASELINE}": float(found.seconds[setting.name].mean()),
        }
        for name, quality in (("5 % are below", tail), ("PSNR of the mean error", of_mean_error)):
            above = partial(above_best_mix, found, setting.name, quality)
            value, mix = above(everything)
            low, high = spread(found, lambda drawn, above=above: above(drawn)[0])
            row |= {
                f"{name}, dB above the best mix": value if mix else "no rival is as fast",
                f"95 % of draws, {name}": f"{low:+.1f} to {high:+.1f}" if mix else "",
                f"mix, {name}": mix,
            }
        rows.append(row)
    return rows


def by_third(found: Found) -> list[dict[str, object]]:
    """Ours and the nearest static settings, by third of complexity; times are multiples of static:8's in the third."""
    rows = []
    names = [BASELINE, "static:8+attention", *(setting.name for setting in found.ours)]
    for index, third in enumerate(THIRDS):
        own = found.thirds == index
        for name in names:
            rows.append(
                {
                    "complexity": third,
                    "setting": name,
                    f"time, x {BASELINE}": float(found.seconds[name][own].mean() / found.seconds[BASELINE][own].mean()),
                    **qualities(found.mse[name][own]),
                }
            )
    return rows


def score_and_error(found: Found) -> list[dict[str, object]]:
    """Rank correlation of scores with the error of static settings."""
    rows = []
    for name in (BASELINE, "static:8+attention", "static:4", "static:16, 14 steps"):
        error = -decibels(found.mse[name])
        row: dict[str, object] = {"error of": name}
        for scored, scores in found.scores.items():
            low, high = interval(scores, error, found.prompts)
            row |= {f"score of {scored}": spearman(scores, error), f"95 %, {scored}": f"{low:+.2f} to {high:+.2f}"}
        rows.append(row)
    return rows


def draw(found: Found, path: Path) -> None:
    """Time against the worst clips, and against the mean error. Ours have letters, whose names stand beside."""
    letters = {setting.name: letter for setting, letter in zip(found.ours, string.ascii_lowercase, strict=False)}
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(14, 5), layout="constrained")
        titles = (("worst 5 % of clips lie below, dB", tail), ("PSNR of the mean error, dB", of_mean_error))
        for axes, (title, quality) in zip(figure.subplots(1, len(titles)), titles, strict=True):
            for kind, color in COLORS.items():
                points = [
                    (float(found.seconds[setting.name].mean()), quality(found.mse[setting.name], None), setting.name)
                    for setting in found.settings
                    if setting.kind == kind and setting.name != REFERENCE
                ]
                if not points:
                    continue
                times, reached, names = zip(*points, strict=True)
                marker = "D" if kind == "tadp" else "o"
                axes.scatter(times, reached, color=color, marker=marker, s=26, label=kind)
                for time, level, name in zip(times, reached, names, strict=True) if kind in ("tadp", "static") else ():
                    text = letters.get(name, name.removeprefix("static:"))
                    axes.annotate(text, (time, level), fontsize=8, xytext=(4, 4), textcoords="offset points")
            axes.set_ylabel(title)
            axes.set_xlabel(f"time of a clip, x {BASELINE}")
        kinds, _ = figure.axes[0].get_legend_handles_labels()
        ours = [Line2D([], [], linestyle="", label=f"{letter}  {name}") for name, letter in letters.items()]
        figure.legend(handles=[*kinds, *ours], loc="outside right upper", frameon=False, fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)


def write_report(files: Sequence[Path], out: Path, json: Path | None, planned: int) -> None:
    """Print all tables, and write proof.md, proof.png and, where a path is given, JSON."""
    found = read(files, ALL)
    tables = {
        "Settings": table_of_settings(found),
        "Against the best mix of two rivals in the same mean time": against_mixes(found),
        "By third of complexity": by_third(found),
        "Does the score predict the error?": score_and_error(found),
    }
    for title, rows in tables.items():
        record(title, rows, None)
    facts = {"contents": len(found.prompts), "of planned": planned, "prompts": len(set(found.prompts))}
    if json is not None:
        record("proof", tables["Settings"], json, **facts, **dict(tables))
    draw(found, out / "proof.png")
    sections = [f"## {title}\n\n{markdown(rows)}" for title, rows in tables.items()]
    (out / "proof.md").write_text(_page(out / "proof.md", facts, sections))


def _page(path: Path, facts: Mapping[str, object], sections: Sequence[str]) -> str:
    """The page with new tables under what was written by hand."""
    introduction = path.read_text().partition(MARKER)[0] if path.exists() else "# Does adapting pay?\n\n"
    counted = ", ".join(f"{name}: {value}" for name, value in facts.items())
    return "\n\n".join([introduction.rstrip(), MARKER, f"{counted}.", "![The proof](proof.png)", *sections]) + "\n"

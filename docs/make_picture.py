"""Compose docs/images/demo.gif from what `make demo` wrote: each clip beside its plan and its score.

make demo
.venv/bin/python docs/make_picture.py out/demo
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from PIL import Image

from tadp.report.plot import LEVEL_COLORS

TARGET = Path(__file__).parent / "images" / "demo.gif"
COLORS = 96
"""Of the whole picture. More add bytes and nothing that is seen."""


def main(directory: Path) -> None:
    """Write the picture from the report and the clips in a directory."""
    report = json.loads((directory / "report.json").read_text())
    prompts = report["prompts"]
    clips = [frames(directory / prompt["runs"][0]["files"]["gif"]) for prompt in prompts]
    with matplotlib.rc_context({"font.size": 10, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(8.8, 1.6 * len(prompts) + 0.6), dpi=100)
        canvas = FigureCanvasAgg(figure)
        edges = {"left": 0.012, "right": 0.988, "top": 0.915, "bottom": 0.1}
        grid = figure.add_gridspec(len(prompts), 2, width_ratios=(1, 4.6), hspace=0.42, wspace=0.05, **edges)
        pictures = []
        used: set[str] = set()
        for row, prompt in enumerate(prompts):
            pictures.append(figure.add_subplot(grid[row, 0]))
            used |= draw_plan(figure.add_subplot(grid[row, 1]), prompt)
        levels = [level for level in LEVEL_COLORS if level in used]
        names = {"0": "reused", "w8a16": "8-bit weights"}
        handles = [Patch(facecolor=LEVEL_COLORS[level], label=names.get(level, f"{level} bits")) for level in levels]
        figure.legend(handles=handles, loc="lower right", ncols=len(handles), frameon=False, bbox_to_anchor=(0.99, 0))
        figure.text(0.012, 0.012, "a row is a block, a column is a sampling step", color="#555555")
        pages = [drawn(canvas, pictures, [clip[index] for clip in clips]) for index in range(len(clips[0]))]
    palette = pages[len(pages) // 2].quantize(COLORS)
    first, *rest = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    TARGET.parent.mkdir(exist_ok=True)
    first.save(TARGET, save_all=True, append_images=rest, duration=140, loop=0, optimize=True)
    print(f"{TARGET}: {TARGET.stat().st_size / 1e6:.2f} MB, {first.width}x{first.height}, {len(pages)} frames")


def frames(path: Path) -> list[Image.Image]:
    """Every frame of a clip."""
    found = []
    with Image.open(path) as clip:
        for index in range(clip.n_frames):
            clip.seek(index)
            found.append(clip.convert("RGB"))
    return found


def draw_plan(axes: Axes, prompt: Mapping[str, Any]) -> set[str]:
    """Draw the level of every block in every step.

    Returns:
        The levels that were drawn.
    """
    run = prompt["runs"][0]
    steps = {record["step"]: run["plans"][record["plan"]] for record in run["history"]}
    blocks = list(next(iter(steps.values())))
    used: set[str] = set()
    for step, plan in steps.items():
        for row, block in enumerate(blocks):
            level = plan[block].partition("+")[0]
            used.add(level)
            cell = Rectangle((step - 1, row), 1, 1, facecolor=LEVEL_COLORS[level], edgecolor="white", linewidth=0.6)
            axes.add_patch(cell)
    axes.set(xlim=(0, len(steps)), ylim=(len(blocks), 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    text = prompt["prompt"] if len(prompt["prompt"]) <= 76 else prompt["prompt"][:75].rstrip() + "…"
    axes.set_title(f"{text}\nscore {run['score']['total']:.2f}", loc="left", fontsize=10, pad=4)
    return used


def drawn(canvas: FigureCanvasAgg, pictures: list[Axes], shown: list[Image.Image]) -> Image.Image:
    """The figure with one frame of every clip."""
    for axes, frame in zip(pictures, shown, strict=True):
        axes.clear()
        axes.imshow(frame, interpolation="nearest")
        axes.set_axis_off()
    canvas.draw()
    return Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "out/demo"))

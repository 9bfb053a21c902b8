"""The table that ends a run: a row for each prompt and policy."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tadp.report.console import console, need_rich

PROMPT_WIDTH = 44
CAPTION = (
    "levels: bits and their share of pieces x steps, 0 for reused; s/step: mean; kept: residuals for reuse, at most; "
    "PSNR (dB) and SSIM: against the 16-bit clip"
)


@dataclass(frozen=True)
class Row:
    """One generation. `levels` counts pieces times steps; PSNR and SSIM are None without a 16-bit clip."""

    prompt: str
    policy: str
    score: float | None
    levels: dict[str, int]
    seconds_per_step: float | None
    weight_bytes: int
    kept_bytes: int
    psnr: float | None
    ssim: float | None


def print_table(rows: Iterable[Row]) -> None:
    """Print the rows, a rule between prompts.

    Raises:
        MissingExtraError: without rich.
    """
    need_rich()
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, caption_justify="left", caption=CAPTION)
    table.add_column("prompt", max_width=PROMPT_WIDTH, overflow="fold")
    table.add_column("policy", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("levels")
    for name in ("s/step", "weights", "kept", "PSNR", "SSIM"):
        table.add_column(name, justify="right", no_wrap=True)
    previous = None
    for row in rows:
        if previous is not None and row.prompt != previous:
            table.add_section()
        table.add_row(
            shorten(row.prompt) if row.prompt != previous else "",
            row.policy,
            _figure(row.score, 2),
            format_levels(row.levels),
            _figure(row.seconds_per_step, 3),
            format_bytes(row.weight_bytes),
            format_bytes(row.kept_bytes) if row.kept_bytes else "-",
            _figure(row.psnr, 1),
            _figure(row.ssim, 3),
        )
        previous = row.prompt
    console(least=120).print(table)


def shorten(prompt: str, width: int = PROMPT_WIDTH) -> str:
    """A prompt on one line of at most `width` characters."""
    line = " ".join(prompt.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def format_levels(levels: dict[str, int]) -> str:
    """Levels by their share, the most used first: "8:75% 16:25%"."""
    total = sum(levels.values())
    return " ".join(f"{name}:{round(100 * count / total)}%" for name, count in levels.items()) or "-"


def format_bytes(count: int) -> str:
    """Bytes in the unit that suits them, powers of ten."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def _figure(value: float | None, digits: int) -> str:
    if value is None or math.isnan(value):
        return "-"
    return "same" if math.isinf(value) else f"{value:.{digits}f}"

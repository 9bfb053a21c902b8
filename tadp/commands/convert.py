"""`tadp convert`: a checkpoint of one format as one of another, and what that costs."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from tadp.commands.errors import InputError
from tadp.compiler import converting
from tadp.compiler.converting import Order
from tadp.compiler.saving import shard_bytes
from tadp.files.foreign.containers import read_config, read_json
from tadp.files.foreign.pieces import Outcome, decibels
from tadp.report.console import console, need_rich, table

DTYPES = ("auto", "bfloat16", "float16")

_FLOATS = {"float32", "bfloat16", "float16"}


@dataclass(frozen=True)
class Line:
    """Tensors of one kind in all blocks: how many, what they were and become, their rows, and the worst of them."""

    name: str
    count: int
    was: str
    becomes: str
    rows: int
    changed: int
    decibels: float


def convert(
    source: Path,
    out: Path,
    to: str,
    config: Path | None = None,
    dtype: str = "auto",
    max_shard_size: str = "5GB",
    verify: bool = False,
    dry_run: bool = False,
) -> int:
    """Convert a checkpoint, and print a table of what is kept exactly and what is rounded.

    Args:
        source: file or directory.
        out: likewise.
        to: one of `tadp.files.foreign.kinds.WRITTEN`.
        config: of the model: a ``config.json`` of diffusers, or a directory with one; None: the one of the source.
        dtype: compute type of the target, one of `DTYPES`.
        max_shard_size: such as "5GB".
        verify: read what was written back and compare.
        dry_run: write nothing.

    Returns:
        The exit code.

    Raises:
        InputError: for a source that cannot be read, and for a target that cannot be written.
    """
    need_rich()
    if verify and dry_run:
        raise InputError("--verify reads what was written, and --dry-run writes nothing: leave one out")
    try:
        order = converting.order(source, to, _config(config), None if dtype == "auto" else getattr(torch, dtype))
        total = sum(torch.Size(stored.shape).numel() for stored in order.checkpoint.tensors)
        with tqdm(desc=f"converting to {to}", total=total, unit="weights", unit_scale=True, leave=False) as progress:
            outcomes = converting.convert(order, out, shard_bytes(max_shard_size), dry_run, progress.update)
        _print(order, outcomes, out, dry_run)
        if verify:
            converting.verify(order, out, outcomes)
            console().print(f"verified: {out} holds what the table says", highlight=False)
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
    return 0


def lines_of(outcomes: Iterable[Outcome]) -> list[Line]:
    """Outcomes by layer, all blocks together, in the order in which the first of each came."""
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for outcome in outcomes:
        name = re.sub(r"\.\d+\.", ".*.", outcome.name, count=1)
        groups.setdefault((name, outcome.was, outcome.becomes), []).append(outcome)
    return [
        Line(
            name,
            len(group),
            was,
            becomes,
            sum(outcome.rows for outcome in group),
            sum(outcome.changed for outcome in group),
            min(outcome.decibels for outcome in group),
        )
        for (name, was, becomes), group in groups.items()
    ]


def _print(order: Order, outcomes: tuple[Outcome, ...], out: Path, dry_run: bool) -> None:
    what = f"{order.checkpoint.format} to {order.to}"
    shown = table(what, "tensor", "in blocks", "was", "becomes", "rows rounded", "least dB")
    exact, exact_count = 0, 0
    for line in lines_of(outcomes):
        if not line.changed:
            exact, exact_count = exact + line.rows, exact_count + line.count
            if {line.was, line.becomes} <= _FLOATS:
                continue  # plain tensors that lost nothing
        rounded = f"{line.changed} of {line.rows}" if line.changed else "none: exact"
        level = "-" if math.isinf(line.decibels) else f"{line.decibels:.1f}"
        shown.add_row(line.name, str(line.count), line.was, line.becomes, rounded, level)
    if shown.row_count:
        console(least=132).print(shown)
    changed = [outcome for outcome in outcomes if outcome.changed]
    signal, noise = sum(outcome.signal for outcome in changed), sum(outcome.noise for outcome in changed)
    summary = f"{exact_count} tensors are exactly those of the source"
    if changed:
        summary += f", {len(changed)} were rounded, {decibels(signal, noise):.1f} dB over all of these"
    console().print(summary, highlight=False, soft_wrap=True)
    for reason in order.checkpoint.left_out:
        console().print(f"left out: {reason}", highlight=False, soft_wrap=True)
    if order.beside:
        names = ", ".join(stored.name for stored in order.beside[:3])
        console().print(
            f"{len(order.beside)} tensors have no place in the model's class (such as {names}): they lie in "
            "beside.safetensors",
            highlight=False,
            soft_wrap=True,
        )
    console().print("nothing was written" if dry_run else f"written to {out}", highlight=False, soft_wrap=True)


def _config(path: Path | None) -> Mapping[str, Any] | None:
    if path is None:
        return None
    if not path.is_dir():
        return read_json(path)
    found = read_config(path)
    if not found:
        raise InputError(f"--config: {path} has no config.json")
    return found

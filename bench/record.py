"""How a benchmark's result is printed and kept: a table, and JSON with machine, versions and date."""

import argparse
import datetime
import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tadp import processor
from tadp.writing import replacing

PACKAGES = ("torch", "torchao", "diffusers", "transformers", "triton")


def parser(question: str) -> argparse.ArgumentParser:
    """The options that all benchmarks share."""
    made = argparse.ArgumentParser(description=question)
    made.add_argument("--json", type=Path, help="also write the result here")
    return made


def machine() -> dict[str, object]:
    """What the numbers were measured on."""
    found = {"cpu": processor.name(), "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    present = processor.flags()
    found["isa"] = [isa for isa in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_int8") if isa in present]
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def versions() -> dict[str, str]:
    """Installed versions of the packages that matter."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def record(name: str, rows: Sequence[Mapping[str, object]], path: Path | None, **facts: object) -> None:
    """Print rows as a table and, where a path is given, write them with machine, versions and date."""
    table = Table(title=name)
    for column in rows[0]:
        table.add_column(str(column))
    for row in rows:
        table.add_row(*map(cell, row.values()))
    console = Console(width=140)
    console.print(table)
    for key, value in facts.items():
        console.print(f"{key}: {value}")
    if path is not None:
        write(name, rows, path, **facts)


def write(name: str, rows: Sequence[Mapping[str, object]], path: Path, **facts: object) -> None:
    """Write rows with machine, versions and date; a benchmark that may be interrupted does so as it goes."""
    content = {
        "name": name,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "rows": list(rows),
        **facts,
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")


def cell(value: object) -> str:
    """A value as tables show it."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as a table of Markdown."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "| " + " | ".join("---" for _ in columns) + " |"]
    lines += ["| " + " | ".join(cell(row[column]) for column in columns) + " |" for row in rows]
    return "\n".join(lines)

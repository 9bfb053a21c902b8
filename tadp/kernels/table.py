"""Tables of measured kernels: one JSON file per device, which choices are made from once it is there.

A table belongs to the device it was measured on and to the version of tadp that measured it; of any other it is not
believed. Measuring is tuning.py's business.
"""

import datetime
import functools
import json
import math
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tadp import processor
from tadp.cache import cache_directory
from tadp.kernels.registry import Request
from tadp.precision import Level
from tadp.version import VERSION
from tadp.writing import replacing

FORMAT = 3
SIMILAR = 2.0
"""Measurements at up to so many times more or fewer tokens speak for a number of tokens that was not measured."""


class StaleTableError(ValueError):
    """A table that is damaged, or that another version or device made; the message says how to redo it."""


@dataclass(frozen=True)
class Measurement:
    """Milliseconds of each kernel, by name, on one request; and the kernels that failed at it."""

    request: Request
    milliseconds: tuple[tuple[str, float], ...]
    failed: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """What was timed."""
        return frozenset(name for name, _ in self.milliseconds)

    @property
    def fastest(self) -> str:
        """Name of the fastest kernel."""
        return min(self.milliseconds, key=lambda entry: entry[1])[0]


@dataclass(frozen=True)
class Table:
    """The measurements of one device."""

    device: str
    measurements: tuple[Measurement, ...] = ()

    def fastest(self, request: Request, offered: frozenset[str]) -> str | None:
        """Name of the kernel that was fastest on this request, or on it at the nearest number of tokens.

        Another number of tokens speaks for this one only where the same kernels were tried as are ``offered`` here.
        """
        alike = [
            entry
            for entry in self.measurements
            if replace(entry.request, tokens=request.tokens) == request
            and (entry.request == request or entry.names == offered - entry.failed)
        ]
        if not alike:
            return None
        distance, nearest = min(
            ((abs(math.log(entry.request.tokens / request.tokens)), entry) for entry in alike), key=lambda pair: pair[0]
        )
        return nearest.fastest if distance <= math.log(SIMILAR) else None

    def updated(self, measurements: Iterable[Measurement]) -> "Table":
        """A table in which new measurements have taken the place of earlier ones of the same requests."""
        merged = {entry.request: entry for entry in (*self.measurements, *measurements)}
        return replace(self, measurements=tuple(merged.values()))

    def save(self, path: Path) -> None:
        """Write the table; an earlier file is replaced at once and as a whole."""
        content = {
            "format": FORMAT,
            "tadp": VERSION,
            "torch": torch.__version__,
            "device": self.device,
            "date": datetime.date.today().isoformat(),
            "measurements": [
                _request_to_json(entry.request)
                | {"milliseconds": dict(entry.milliseconds), "failed": sorted(entry.failed)}
                for entry in self.measurements
            ],
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")

    @staticmethod
    def load(path: Path, device: str) -> "Table":
        """Read a table that was measured on a device.

        Raises:
            StaleTableError: for a file that is damaged, of another version of tadp, or of another device.
            OSError: where it cannot be read.
        """
        redo = f"measure again with `tadp bench --tune`, or delete {path}"
        try:
            content = json.loads(path.read_text())
            made_by = (content["format"], content["tadp"], content["device"])
            measurements = tuple(_measurement_from_json(row) for row in content["measurements"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StaleTableError(f"the table of kernel times {path} is damaged ({error}): {redo}") from error
        wanted = (FORMAT, VERSION, device)
        if made_by != wanted:
            raise StaleTableError(f"the table of kernel times {path} is of {made_by}, not of {wanted}: {redo}")
        return Table(device, measurements)


def device_name(device: torch.device) -> str:
    """What a table is kept under: a GPU's name, or processor, instruction set and number of threads."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{processor.name()} {torch.ops.tadp.cpu_isa()} {torch.get_num_threads()} threads"


def table_path(device: str) -> Path:
    """Where the table of a device is kept: in the cache directory."""
    return cache_directory() / "tuning" / f"{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}.json"


def lookup(request: Request, device: torch.device, offered: frozenset[str]) -> str | None:
    """Name of the kernel that was measured to be fastest on this device, None where nothing alike was measured."""
    name = device_name(device)
    path = table_path(name)
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError:
        return None
    table = _loaded(path, name, changed)
    return None if table is None else table.fastest(request, offered)


@functools.lru_cache(maxsize=8)
def _loaded(path: Path, device: str, changed: int) -> Table | None:
    try:
        return Table.load(path, device)
    except (StaleTableError, OSError) as error:
        warnings.warn(f"kernels are chosen by rule: {error}", stacklevel=2)
        return None


def _request_to_json(request: Request) -> dict[str, Any]:
    return {
        "level": str(request.level),
        "tokens": request.tokens,
        "columns": request.columns,
        "rows": request.rows,
        "groups": request.groups,
        "dtype": str(request.dtype).removeprefix("torch."),
        "device": request.device,
        "architecture": request.architecture,
    }


def _measurement_from_json(row: dict[str, Any]) -> Measurement:
    fields = {name: value for name, value in row.items() if name not in ("milliseconds", "failed")}
    fields |= {"level": Level.parse(row["level"]), "dtype": getattr(torch, row["dtype"])}
    times = tuple((str(name), float(value)) for name, value in row["milliseconds"].items())
    if not times or not isinstance(fields["dtype"], torch.dtype):
        raise ValueError("a row without times or type")
    return Measurement(Request(**fields), times, frozenset(map(str, row["failed"])))

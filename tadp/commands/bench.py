"""`tadp bench`: how fast each kernel is on this device, on the linear layers of a model."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from tadp.commands.capture import capture, distinct_layers
from tadp.commands.model import floating_type
from tadp.commands.settings import Settings
from tadp.kernels import registry, table, tuning
from tadp.kernels.planes import group_count
from tadp.kernels.registry import Request
from tadp.precision import Level
from tadp.report.console import console
from tadp.report.console import table as plain_table

if TYPE_CHECKING:
    from rich.table import Table as Printed

LEVELS = tuple(map(Level.parse, ("8", "6", "4", "w8a16", "w6a16", "w4a16")))


@dataclass(frozen=True)
class Timing:
    """A request's measurement, what runs without measurements, and milliseconds of the 16-bit product."""

    measurement: table.Measurement
    rule: str
    base: float

    @property
    def fastest(self) -> str:
        """Name of the fastest kernel."""
        return self.measurement.fastest


def bench(settings: Settings, tune: bool, as_json: bool) -> int:
    """Measure every kernel on every linear layer of a model's blocks, at the size asked for, and print the times.

    Args:
        settings: model, size, and seconds for each layer and level.
        tune: also keep the times, for every later compilation on this device to choose by; after each measurement, so
            that nothing is lost by an interrupt.
        as_json: print rows as JSON instead of as a table.

    Returns:
        The exit code.

    Raises:
        InputError: for a model that cannot be used as given.
    """
    compiled = capture(replace(settings, policy="static:8"), precompile=False).pipeline
    device = compiled.device
    wanted = list(requests(compiled, device, floating_type(settings.dtype, device), settings.group_size))
    keep = keeper(device) if tune else None
    timings = []
    for request in tqdm(wanted, desc="measuring kernels", unit="layer", leave=False):
        measurement, base = tuning.measure(request, device, settings.seconds)
        timings.append(Timing(measurement, measurement.milliseconds[0][0], base))
        if keep is not None:
            keep(measurement)
    if as_json:
        print(json.dumps([_to_json(timing) for timing in timings], indent=1))
    else:
        console(least=120).print(_printed(timings, table.device_name(device)))
    if tune:
        print(f"kept in {table.table_path(table.device_name(device))}; compilations on this device choose by it")
    return 0


def requests(pipeline: Any, device: torch.device, dtype: torch.dtype, group_size: int | None) -> Iterator[Request]:
    """Every distinct shape among the linear layers of a compiled pipeline, at every level."""
    shapes = {layer[:3] for layer in distinct_layers(pipeline)}
    for tokens, out, columns in sorted(shapes):
        for level in LEVELS:
            yield Request(
                level=level,
                tokens=tokens,
                columns=columns,
                rows=out,
                groups=group_count(columns, group_size),
                dtype=dtype,
                device=device.type,
                architecture=registry.architecture_of(device),
            )


def keeper(device: torch.device) -> Callable[[table.Measurement], None]:
    """A function that adds a measurement to the table of a device; a table that is stale is begun anew."""
    name = table.device_name(device)
    path = table.table_path(name)
    try:
        known = table.Table.load(path, name)
    except (OSError, table.StaleTableError):
        known = table.Table(name)

    def keep(measurement: table.Measurement) -> None:
        nonlocal known
        known = known.updated([measurement])
        known.save(path)

    return keep


def _printed(timings: Sequence[Timing], device: str) -> "Printed":
    columns = ("layer", "level", "16 bits", "fastest", "", "times as fast", "others")
    printed = plain_table(f"linear layers on {device}, milliseconds", *columns)
    for timing in timings:
        request, times = timing.measurement.request, dict(timing.measurement.milliseconds)
        names = [timing.fastest, *(name for name in times if name != timing.fastest)]
        told = [f"{name}{' (rule)' if name == timing.rule and len(names) > 1 else ''}" for name in names]
        others = ", ".join(f"{shown} {times[name]:.3g}" for name, shown in zip(names[1:], told[1:], strict=True))
        best = times[timing.fastest]
        printed.add_row(
            f"{request.tokens} x {request.columns} -> {request.rows}",
            str(request.level),
            f"{timing.base:.3g}",
            told[0],
            f"{best:.3g}",
            f"{timing.base / best:.2f}",
            others,
        )
    return printed


def _to_json(timing: Timing) -> dict[str, Any]:
    request = timing.measurement.request
    return {
        "tokens": request.tokens,
        "columns": request.columns,
        "rows": request.rows,
        "level": str(request.level),
        "milliseconds": {tuning.BASE: timing.base, **dict(timing.measurement.milliseconds)},
        "rule": timing.rule,
        "fastest": timing.fastest,
    }

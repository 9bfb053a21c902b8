"""`tadp doctor`: what this machine has, which kernels serve on it, and whether they are right and fast."""

import contextlib
import datetime
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from tadp.cache import cache_directory
from tadp.commands.model import device_of
from tadp.commands.settings import AUTO, Settings
from tadp.doctor import machine
from tadp.doctor.findings import Finding, Verdict
from tadp.doctor.numerics import numeric_checks
from tadp.doctor.served import Served, served_on
from tadp.doctor.speed import speed_checks
from tadp.report.console import console, table
from tadp.report.document import to_json
from tadp.writing import replacing

SCHEMA_VERSION = 1


def doctor(settings: Settings, path: Path | None) -> int:
    """Look at the machine, print what was found, and write it to a file.

    Args:
        settings: devices, all where none is named, and seconds for each comparison of times.
        path: of the JSON file; None for none.

    Returns:
        The exit code: 1 where something is wrong.

    Raises:
        InputError: for a device that cannot be used here.
    """
    devices = machine.devices() if settings.device == AUTO else [device_of(settings)]
    about = machine.describe()
    _print_machine(about)
    served = [row for device in devices for row in served_on(device)]
    _print_served(served)
    findings = [found for row in served if (found := row.finding()) is not None]
    findings += _look(devices, settings.seconds)
    _print_findings(findings)
    wrong = sum(found.verdict is Verdict.WRONG for found in findings)
    if path is not None:
        _write(path, about, served, findings)
        print(f"written to {path}; it names no user, host or directory")
    print(f"{wrong} of {len(findings)} checks found something wrong" if wrong else "nothing is wrong")
    return 1 if wrong else 0


def _look(devices: Sequence[torch.device], seconds: float) -> list[Finding]:
    """Run all checks of numerics, then of speed."""
    checks = [(check, device) for device in devices for check in numeric_checks(device)]
    checks += [(check, device) for device in devices for check in speed_checks(device, seconds)]
    found = []
    for check, device in tqdm(checks, desc="checking kernels", unit="check", leave=False):
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext(), torch.no_grad():
            found.append(check.run())
    return found


def _print_machine(about: Mapping[str, Any]) -> None:
    gpus = [
        f"{gpu['name']} ({gpu['architecture']}, {gpu['memory_bytes'] / 2**30:.0f} GiB, CUDA C++ kernels "
        f"{'used' if gpu['cuda_kernels'] else 'not used'})"
        for gpu in about["gpus"]
    ]
    cache = about["cache"]
    lines = {
        "processor": f"{about['processor']}, {about['cores']} cores, {about['threads']} threads",
        "instruction set": f"{about['instruction_set']} (there are {', '.join(about['instruction_sets'])})",
        "memory": _gib(about["memory_bytes"]) + f", {_gib(about['memory_free_bytes'])} free",
        "GPUs": "; ".join(gpus) or f"none that torch sees (its CUDA: {about['cuda_of_torch'] or 'a CPU build'})",
        "driver": about["driver"] or "none",
        "versions": ", ".join(f"{name} {version or 'missing'}" for name, version in about["versions"].items()),
        "tadp/_C.so": "CPU kernels" + (" and CUDA kernels" if about["library"]["cuda"] else ", no CUDA kernels"),
        "Triton kernels": about["triton_kernels"],
        "cache": f"{cache_directory()}, {_gib(cache['free_bytes'])} free"
        + ("" if cache["writable"] else ", NOT WRITABLE: name another place in TADP_CACHE_DIR"),
    }
    for name, text in lines.items():
        print(f"{name:>16}  {text}")


def _print_served(served: Sequence[Served]) -> None:
    printed = table("which kernels serve, in order", "device", "product", "kernels", "others")
    for row in served:
        others = "; ".join(f"{name}: {reason}" for name, reason in row.reasons)
        printed.add_row(row.device, row.product, ", ".join(row.kernels) or "none", others)
    console(least=120).print(printed)


def _print_findings(findings: Sequence[Finding]) -> None:
    for found in findings:
        print(f"{found.verdict.value:>10}  {found.subject}: {found.detail}")
        if found.way_out:
            print(f"{'':>10}  -> {found.way_out}")


def _write(path: Path, about: Mapping[str, Any], served: Sequence[Served], findings: Sequence[Finding]) -> None:
    document = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": about,
        "kernels": to_json(served),
        "findings": [{**to_json(found), "verdict": found.verdict.value} for found in findings],
    }
    with replacing(path) as temporary:
        text = json.dumps(machine.without_names(document), indent=1, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _gib(nbytes: int | None) -> str:
    return "unknown" if nbytes is None else f"{nbytes / 2**30:.1f} GiB"

"""What a machine has that tadp cares about. No user, host or path is named: it is meant to be attached to reports."""

import getpass
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import torch

from tadp.cache import cache_directory
from tadp.doctor.findings import one_line
from tadp.kernels import cuda
from tadp.kernels import triton as triton_kernels
from tadp.kernels.isa import NAMES, is_available
from tadp.kernels.registry import architecture_of
from tadp.report.document import describe_machine, describe_versions


def devices() -> list[torch.device]:
    """The CPU and every GPU that torch sees."""
    return [torch.device("cpu"), *(torch.device("cuda", index) for index in range(torch.cuda.device_count()))]


def describe() -> dict[str, Any]:
    """Processor, memory, GPUs, versions, what tadp was built with, and the room in its cache."""
    machine = {key: value for key, value in describe_machine().items() if key != "gpus"}
    return {
        **machine,
        "memory_free_bytes": _free_memory(),
        "instruction_set": architecture_of(torch.device("cpu")),
        "instruction_sets": [name for name in NAMES if is_available(name)],
        "gpus": [_gpu(device) for device in devices() if device.type == "cuda"],
        "driver": _driver(),
        "cuda_of_torch": torch.version.cuda or torch.version.hip,
        "versions": describe_versions(),
        "library": _library(),
        "triton_kernels": triton_kernels.missing() or "there",
        "cache": _cache(),
    }


def without_names(value: Any) -> Any:
    """The same without the home directory, the user's and the host's name in any of its texts."""
    if isinstance(value, dict):
        return {key: without_names(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_names(item) for item in value]
    if not isinstance(value, str):
        return value
    for name, shown in _names():
        value = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", shown, value)
    return value


def _names() -> list[tuple[str, str]]:
    """What no report shows, and what stands for it; shorter ones would be found in ordinary texts."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without an entry for its user
        user = ""
    found = [(str(Path.home()), "~"), (str(cache_directory()), "CACHE"), (socket.gethostname(), "HOST"), (user, "USER")]
    return [(name, shown) for name, shown in found if len(name) > 3]


def _gpu(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    return {
        "name": properties.name,
        "architecture": architecture_of(device),
        "memory_bytes": total,
        "memory_free_bytes": free,
        "cuda_kernels": cuda.is_used(device),
    }


def _driver() -> str | None:
    """The version of NVIDIA's driver; None where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi does not answer: {one_line(error)}"
    return lines[0].strip() if lines else None


def _library() -> dict[str, bool]:
    """What tadp/_C.so holds; this module could not be imported without it."""
    return {"cpu": hasattr(torch.ops.tadp, "cpu_isa"), "cuda": hasattr(torch.ops.tadp, "cuda_runs_on")}


def _free_memory() -> int | None:
    pages = "SC_AVPHYS_PAGES"
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE") if pages in getattr(os, "sysconf_names", {}) else None


def _cache() -> dict[str, Any]:
    """Whether the cache directory is named, can be written to, and what room it has; not where it is."""
    place = cache_directory()
    existing = next(path for path in (place, *place.parents) if path.exists())
    return {
        "named_by": "TADP_CACHE_DIR" if os.environ.get("TADP_CACHE_DIR") else "the default",
        "writable": os.access(existing, os.W_OK),
        "free_bytes": shutil.disk_usage(existing).free,
    }

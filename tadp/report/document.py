"""report.json: what was asked, on what machine, and what came of each prompt under each policy; see docs/cli.md."""

import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tadp import processor
from tadp.precision import Level, Plan, Recipe
from tadp.report.run import Run
from tadp.runtime.signals import BlockSignals
from tadp.version import VERSION
from tadp.writing import replacing

SCHEMA_VERSION = 1
_LIBRARIES = ("torch", "triton", "torchao", "diffusers", "transformers", "safetensors", "numpy")


def new_document(settings: Any, model: Mapping[str, Any], policies: Sequence[str]) -> dict[str, Any]:
    """The head of a report, without prompts yet."""
    return {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "complete": False,
        "versions": describe_versions(),
        "machine": describe_machine(),
        "settings": to_json(settings),
        "model": to_json(model),
        "policies": list(policies),
        "prompts": [],
    }


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a report in place of the one before it; a reader sees the old or the new one, never half of either."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(to_json(document), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def describe_run(run: Run, quality: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """A run as JSON. Plans are listed once, in the order in which they came up; records refer to them by position."""
    plans: list[dict[str, str]] = []
    history = []
    for module, step, record in run.records():
        plan = {run.piece_name(module, piece): str(recipe) for piece, recipe in record.plan}
        if plan not in plans:
            plans.append(plan)
        history.append(
            {
                "module": module,
                "generation": record.generation,
                "step": step,
                "phase": record.phase,
                "branch": record.branch,
                "timestep": to_json(record.timestep),
                "seconds": record.seconds,
                "score": to_json(record.score),
                "signals": to_json(record.signals),
                "plan": plans.index(plan),
            }
        )
    final = {
        run.piece_name(module, piece): _recipe(recipe)
        for module, seen in run.observed.items()
        for piece, recipe in seen.plan
    }
    return {
        "policy": run.policy,
        "score": to_json(run.score),
        "plan": final,
        "plans": plans,
        "history": history,
        "seconds": run.seconds,
        "seconds_per_step": run.seconds_per_step(),
        "weight_bytes": run.weight_bytes,
        "kept_bytes": run.kept_bytes,
        **to_json(quality),
        "files": dict(files),
    }


def describe_versions() -> dict[str, str | None]:
    """Versions of Python and of the libraries a result depends on; None for one that is not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version(), "tadp": VERSION}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            versions[library] = None
    return versions


def describe_machine() -> dict[str, Any]:
    """Processor, cores, threads, memory and accelerators of this machine."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    return {
        "system": platform.platform(),
        "processor": processor.name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": pages,
        "gpus": gpus,
    }


def to_json(value: Any) -> Any:
    """A value as JSON knows it: dataclasses as objects, levels and plans by name, NaN and infinity as null."""
    if isinstance(value, Plan):
        return {piece: str(recipe) for piece, recipe in value}
    if isinstance(value, (Level, Recipe, Enum, Path, torch.dtype, torch.device)):
        return str(value)
    if isinstance(value, BlockSignals):
        return {"piece": value.piece, **_by_column(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return to_json(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int)):
        return value
    return str(value)


def _by_column(block: BlockSignals) -> dict[str, Any]:
    """The values of each column, or those of each layer."""
    found: dict[str, Any] = {}
    for (name, layer), values in block.values.items():
        if layer:
            found.setdefault(name, {})[layer] = to_json(values)
        else:
            found[name] = to_json(values)
    return found


def _recipe(recipe: Recipe) -> dict[str, Any]:
    return {
        "default": str(recipe.default),
        "overrides": {str(role): str(level) for role, level in recipe.overrides},
        "reuse": None if recipe.reuse is None else str(recipe.reuse),
    }

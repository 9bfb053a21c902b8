"""Calibrations that are found without being named: beside a model's weights, and in the cache by fingerprint."""

import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from tadp.cache import cache_directory
from tadp.errors import CalibrationWarning
from tadp.files.calibration import load
from tadp.planning.calibration import Calibration

NAME = "tadp-calibration"
"""What files beside weights begin with: "tadp-calibration.json", or "tadp-calibration-float32.json" and its like."""


def find_calibration(fingerprint: str, directories: Iterable[Path]) -> Calibration | None:
    """The calibration of a model, of the first file that was measured on it; None where there is none.

    A file of this model that cannot be used is warned of.

    Args:
        fingerprint: of the model.
        directories: where its weights lie.
    """
    for path in (*_beside(directories), cached(fingerprint)):
        if fingerprint in _models(path):
            try:
                found = load(path)
                found.check(fingerprint)
            except ValueError as error:
                warnings.warn(f"{path} is not used: {error}", CalibrationWarning, stacklevel=3)
            else:
                return found
    return None


def cached(fingerprint: str) -> Path:
    """Where the calibration of a model lies in the cache, if there is one."""
    return cache_directory() / "calibrations" / f"{fingerprint}.json"


def weight_directories(model: torch.nn.Module) -> tuple[Path, ...]:
    """Where a model was loaded from, and the pipeline around it, as far as diffusers noted that."""
    config = getattr(model, "config", None)
    noted = getattr(config, "_name_or_path", None) or (
        config.get("_name_or_path") if isinstance(config, dict) else None
    )
    if not noted or not (own := Path(noted)).is_dir():
        return ()
    return (own, own.parent) if (own.parent / "model_index.json").exists() else (own,)


def _beside(directories: Iterable[Path]) -> Iterator[Path]:
    for directory in directories:
        yield from sorted(directory.glob(f"{NAME}*.json"))


def _models(path: Path) -> tuple[str, ...]:
    """Fingerprints that a file holds for, as far as it can be read; what is wrong with it is said when it is loaded."""
    try:
        return tuple(json.loads(path.read_text())["key"]["models"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()

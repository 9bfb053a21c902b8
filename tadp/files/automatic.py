"""Calibrations that are found without being named: in the cache by fingerprint, and beside a model's weights."""

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
    """The calibration of a model, from the first file that was measured on it; None where there is none.

    The cache comes first: what lies there was measured on this machine. A file of this model that cannot be used is
    warned of, and so is one that does not say of which it is.

    Args:
        fingerprint: of the model.
        directories: where its weights lie.
    """
    own = cached(fingerprint)
    for path in (*([own] if own.exists() else []), *_beside(directories)):
        try:
            if fingerprint in _models(path):
                found = load(path)
                found.check(fingerprint)
                return found
        except ValueError as error:
            warnings.warn(f"{path} is not used: {error}", CalibrationWarning, stacklevel=3)
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
    """Fingerprints that a file holds for.

    Raises:
        ValueError: where it does not say.
    """
    try:
        return tuple(json.loads(path.read_text())["key"]["models"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is no calibration, or a damaged one ({type(error).__name__}: {error})") from error

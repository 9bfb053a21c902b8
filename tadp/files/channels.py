"""What a calibration knows of single channels, in the safetensors file beside its JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tadp.precision import MIXED_AVERAGES

SCHEMA = 2


def path_beside(calibration: Path) -> Path:
    """Of a calibration's JSON file."""
    return calibration.with_suffix(".safetensors")


def save_channels(
    path: Path,
    key: Mapping[str, Any],
    stages: Sequence[float],
    peaks: Mapping[str, torch.Tensor],
    widths: Mapping[str, torch.Tensor],
) -> None:
    """Write what was measured of channels; the file is whole or not there.

    Args:
        path: see `path_beside`.
        key: of the calibration.
        stages: noise levels that part the stages of `peaks`.
        peaks: the largest absolute value of every input channel, by layer: ``(stages + 1, columns)``.
        widths: of every output channel at mixed levels, by layer: ``(len(MIXED_AVERAGES), rows)`` uint8.
    """
    tensors = {f"{layer}.peaks": found.contiguous() for layer, found in peaks.items()}
    tensors |= {f"{layer}.widths": found.contiguous() for layer, found in widths.items()}
    facts = {"schema": SCHEMA, "key": _plain(key), "stages": list(stages), "averages": list(MIXED_AVERAGES)}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, str(partial), {name: json.dumps(value, sort_keys=True) for name, value in facts.items()})
    partial.replace(path)


def load_channels(path: Path, key: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Peaks and widths that were saved under a calibration's key; none where there is no file.

    Raises:
        ValueError: where the file is damaged, or of another calibration.
    """
    if not path.exists():
        return {}, {}
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            facts = {name: json.loads(metadata[name]) for name in ("schema", "key", "averages")}
            peaks, widths = (
                {name.removesuffix(kind): file.get_tensor(name) for name in file.keys() if name.endswith(kind)}  # noqa: SIM118
                for kind in (".peaks", ".widths")
            )
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error})") from error
    if facts != {"schema": SCHEMA, "key": _plain(key), "averages": list(MIXED_AVERAGES)}:
        raise ValueError(f"{path} is not of this calibration")
    return peaks, widths


def _plain(key: Mapping[str, Any]) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(dict(key)))

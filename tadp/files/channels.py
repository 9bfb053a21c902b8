"""What a calibration knows of single channels, in the safetensors file beside its JSON."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tadp.planning.calibration import Calibration
from tadp.precision import MIXED_AVERAGES
from tadp.writing import replacing

SCHEMA = 2
_KINDS = (".peaks", ".widths")

Channels = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]
"""`channel_peaks` and `channel_widths` of a calibration."""


def path_beside(calibration: Path) -> Path:
    """Of a calibration's JSON file."""
    return calibration.with_suffix(".safetensors")


def save_channels(path: Path, calibration: Calibration) -> str | None:
    """Write what was measured of channels; the file is whole or not there.

    Returns:
        SHA-256 of the file; None where nothing was measured: then a file of an earlier calibration is removed.
    """
    found = (calibration.channel_peaks, calibration.channel_widths)
    tensors = {
        f"{layer}{kind}": tensor.contiguous()
        for kind, of_layer in zip(_KINDS, found, strict=True)
        for layer, tensor in of_layer.items()
    }
    if not tensors:
        path.unlink(missing_ok=True)
        return None
    with replacing(path) as temporary:
        save_file(tensors, str(temporary), {name: json.dumps(fact) for name, fact in _facts(calibration).items()})
    return _digest(path)


def load_channels(path: Path, calibration: Calibration, digest: str | None) -> Channels:
    """Peaks and widths that were saved with a calibration; none where its digest is None.

    Raises:
        ValueError: where the file is missing, damaged, or of another calibration.
    """
    if digest is None:
        return {}, {}
    if not path.exists():
        raise ValueError(f"{path} is missing, which belongs beside it")
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            facts = {name: json.loads(metadata[name]) for name in _facts(calibration)}
            peaks, widths = (
                {name.removesuffix(kind): file.get_tensor(name) for name in file.keys() if name.endswith(kind)}  # noqa: SIM118
                for kind in _KINDS
            )
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error})") from error
    if facts != _facts(calibration):
        raise ValueError(f"{path} is not of this calibration")
    if _digest(path) != digest:
        raise ValueError(f"{path} is damaged, or of another run of this calibration")
    return peaks, widths


def _facts(calibration: Calibration) -> dict[str, Any]:
    """What the tensors depend on."""
    return {
        "schema": SCHEMA,
        "key": json.loads(json.dumps(dict(calibration.key))),  # as it comes back from JSON
        "stages": list(calibration.costs.stages),
        "averages": list(MIXED_AVERAGES),
    }


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

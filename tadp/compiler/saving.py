"""`tadp.save`: a compiled model or pipeline on disk, in a form that needs no packing when it is loaded."""

import json
import re
import warnings
from pathlib import Path
from typing import Any, cast

import torch
from tqdm import tqdm

from tadp.compiler.adapters import without_adapters
from tadp.files.automatic import NAME as CALIBRATION
from tadp.files.calibration import save as save_calibration
from tadp.files.fingerprint import versions
from tadp.files.manifest import CONFIG, Manifest, digest_of
from tadp.files.saved import STEM, write_tensors
from tadp.files.shards import SHARD_BYTES
from tadp.policy import Policy, parse
from tadp.runtime.controller import Controller
from tadp.writing import replacing

METHOD = "tadp"
"""What a saved model's configuration calls the way in which it is quantized, see `TadpConfig`."""

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def save(model: Any, directory: str | Path, max_shard_size: int | str = SHARD_BYTES) -> None:
    """Write a compiled model, or a pipeline with compiled transformers, to a directory.

    A transformer becomes safetensors files, of which the front is all that 4 bits read, a configuration, its
    calibration, and ``tadp.json`` with checksums. `tadp.load` reads it, and so does ``from_pretrained`` of diffusers
    once `tadp.TadpConfig` was imported. Other components of a pipeline are saved as diffusers saves them. 16-bit
    weights are not written: name the original files with ``tadp.load(..., masters=...)`` where they are wanted.

    Args:
        model: what `tadp.compile` returned.
        directory: is made where it is missing; what an earlier call wrote there is replaced.
        max_shard_size: bytes that a file may hold, as a number or such as "5GB".

    Raises:
        TypeError: for what is no model and no pipeline.
        ValueError: for a model that is not compiled.
        OSError: where a file cannot be written. Files of an earlier call are whole then, or do not belong together any
            more, which `tadp.load` says.
    """
    path = Path(directory)
    if isinstance(model, torch.nn.Module):
        if not isinstance(getattr(model, "tadp", None), Controller):
            raise ValueError(f"this {type(model).__name__} is not compiled: call tadp.compile(model) before tadp.save")
        cast(Any, model)._save_packed(path, STEM, shard_bytes(max_shard_size))
    elif hasattr(model, "save_pretrained") and hasattr(model, "components"):
        if not isinstance(getattr(model, "tadp", None), Controller):
            raise ValueError(f"this {type(model).__name__} is not compiled: call tadp.compile before tadp.save")
        model.save_pretrained(path, safe_serialization=True, max_shard_size=max_shard_size)
    else:
        raise TypeError(f"expected an nn.Module or a diffusers pipeline, got {type(model).__name__}")


def save_transformer(model: torch.nn.Module, directory: Path, stem: str, shard_size: int) -> None:
    """Write one compiled module.

    Args:
        model: the module.
        directory: where to.
        stem: what files of tensors are named after.
        shard_size: bytes that one may hold.

    Raises:
        OSError, ValueError: as `save`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    controller = cast(Controller, model.tadp)
    controller.complete_planes()
    whole = torch.nn.Module.state_dict(model)
    state = without_adapters(whole)
    if len(state) < len(whole):
        warnings.warn(
            "adapters are not saved with the model: save them with save_lora_weights, and load them again",
            stacklevel=3,
        )
    with tqdm(desc=f"saving to {directory}", unit="B", unit_scale=True, leave=False) as progress:
        written, weights = write_tensors(directory, state, stem, shard_size, progress.update)
    base = type(model).__mro__[1]
    facts, policy = controller.facts, _named_policy(controller.policy)
    digest = ""
    if hasattr(model, "to_json_string"):  # a model of diffusers
        config = {
            "quant_method": METHOD,
            "policy": policy or None,
            "fingerprint": facts.fingerprint,
            "packing": facts.packing,
        }
        content = {**json.loads(cast(Any, model).to_json_string()), "quantization_config": config}
        with replacing(directory / CONFIG) as temporary:
            temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        digest = digest_of(directory / CONFIG)
    for path in directory.glob(f"{CALIBRATION}*"):  # of an earlier call, perhaps of other weights
        path.unlink()
    if controller.calibration is not None and facts.fingerprint:
        save_calibration(controller.calibration, directory / f"{CALIBRATION}.json")
    Manifest(
        fingerprint=facts.fingerprint,
        model=f"{base.__module__}.{base.__qualname__}",
        tensors=written,
        weights=weights,
        config=digest,
        packing=facts.packing,
        policy=policy,
        versions=versions(),
    ).save(directory)


def shard_bytes(size: int | str) -> int:
    """Bytes of a size such as 5_000_000_000 or "5GB".

    Raises:
        ValueError: for anything else.
    """
    if isinstance(size, int) and size > 0:
        return size
    match = re.fullmatch(r"\s*(\d+)\s*([KMGT]?)B?\s*", str(size).upper())
    if match is None or int(match[1]) == 0:
        raise ValueError(f"max_shard_size is a number of bytes or such as '5GB', not {size!r}")
    return int(match[1]) * _UNITS[match[2]]


def _named_policy(policy: Policy) -> str:
    """A policy's name, where a name says all of it."""
    text = str(policy)
    try:
        parse(text)
    except ValueError:
        warnings.warn(
            f"the policy {text} has no name that says all of it, and is not saved: pass it to tadp.load again",
            stacklevel=4,
        )
        return ""
    return text

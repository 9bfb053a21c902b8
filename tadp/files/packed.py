"""Packed weights as plain tensors with metadata, which is what safetensors files can hold."""

import json
from collections.abc import Mapping
from typing import Any

import torch

from tadp.kernels.bitplanes import DTYPES, BitPlaneWeight
from tadp.kernels.formats import FORMATS, GROUP_SIZES, PLANE_BITS
from tadp.kernels.planes import laid_out_by_group, plane_shape
from tadp.kernels.rotation import SIZES

METADATA_KEY = "tadp.bit_planes"
"""Where the metadata of a file says which of its tensors belong to packed weights."""

VERSION = 2
"""Of that metadata; 2 may hold rotations, which a reader of 1 would not undo."""

PARTS = (*PLANE_BITS, "scale", "factors")
"""What the tensors of a packed weight are called, behind its name and a dot. Not every weight has factors."""

_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in DTYPES}
_FIELDS = ("columns", "dtype", "rotation")


def flatten_state_dict(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Take a state dict apart into what safetensors can store: plain tensors and string metadata.

    The planes of ``name`` become ``name.high``, ``name.mid``, ``name.low`` and ``name.scale``, with ``name.factors``
    where there are some. (torchao's own flattening accepts a fixed list of its own classes only.)

    Raises:
        ValueError: if a plain tensor of the state dict has such a name already, and for a weight that lacks planes.
    """
    tensors: dict[str, torch.Tensor] = {}
    weights: dict[str, dict[str, Any]] = {}
    plain = {name for name, tensor in state.items() if not isinstance(tensor, BitPlaneWeight)}
    for name, tensor in state.items():
        if not isinstance(tensor, BitPlaneWeight):
            tensors[name] = tensor.detach()
            continue
        if tensor.widest != max(FORMATS):
            raise ValueError(f"of the packed weight {name} only the planes of {tensor.widest} bits are here")
        weights[name] = {"columns": tensor.columns, "dtype": str(tensor.dtype).removeprefix("torch.")}
        if tensor.rotation:
            weights[name]["rotation"] = tensor.rotation
        for part in PARTS:
            if getattr(tensor, part) is None:
                continue
            if f"{name}.{part}" in plain:
                raise ValueError(f"the state dict holds both the packed weight {name} and a tensor {name}.{part}")
            tensors[f"{name}.{part}"] = getattr(tensor, part)
    return tensors, {METADATA_KEY: json.dumps({"version": VERSION, "weights": weights})}


def unflatten_state_dict(
    tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None, width: int = 8
) -> dict[str, torch.Tensor]:
    """Undo ``flatten_state_dict``. Tensors without the metadata come back as they are.

    Args:
        tensors: as a file holds them; planes that `width` does not read may be missing.
        metadata: of the file.
        width: up to which weights are to be readable: 8, 6 or 4 bits.

    Raises:
        ValueError: for metadata that is damaged or of an unknown version, and where a part is missing or does not fit.
    """
    rest = dict(tensors)
    packed: dict[str, torch.Tensor] = {}
    for name, facts in packed_weights(metadata).items():
        parts = {part: rest.pop(f"{name}.{part}", None) for part in PARTS}
        packed[name] = assemble(name, facts, parts, width)
    return {**rest, **packed}


def packed_weights(metadata: Mapping[str, str] | None) -> dict[str, Mapping[str, Any]]:
    """By name, what metadata says of packed weights beside their tensors; nothing where it says nothing.

    Raises:
        ValueError: for metadata that is damaged or of an unknown version.
    """
    text = (metadata or {}).get(METADATA_KEY)
    if text is None:
        return {}
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the metadata {METADATA_KEY} is damaged ({error})") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version not in (1, VERSION):
        raise ValueError(f"bit planes of format version {version}; this tadp reads 1 and {VERSION}")
    weights = content.get("weights")
    if not isinstance(weights, dict):
        raise ValueError(f"the metadata {METADATA_KEY} is damaged: it has no field 'weights'")
    for name, facts in weights.items():
        _check_facts(name, facts)
    return weights


def assemble(
    name: str, facts: Mapping[str, Any], parts: Mapping[str, torch.Tensor | None], width: int = 8
) -> BitPlaneWeight:
    """A packed weight from its tensors.

    Args:
        name: for messages.
        facts: of `packed_weights`.
        parts: by the names in `PARTS`; planes that `width` does not read are left out.
        width: 8, 6 or 4.

    Raises:
        ValueError: where a part is missing or does not fit.
    """
    columns = facts["columns"]
    for part in (*FORMATS[width].planes, "scale"):
        if parts.get(part) is None:
            raise ValueError(f"the packed weight {name} lacks its part {name}.{part}")
    high, scale, factors = parts["high"], parts["scale"], parts.get("factors")
    assert high is not None
    assert scale is not None
    rows = high.shape[0] if high.dim() == 2 else 0
    planes: dict[str, torch.Tensor] = {}
    for plane in PLANE_BITS:
        found = parts.get(plane) if plane in FORMATS[width].planes else None
        planes[plane] = high.new_empty(rows, 0) if found is None else found
        fits = found is None or (tuple(found.shape), found.dtype) == (plane_shape(plane, rows, columns), torch.uint8)
        if not fits:
            raise ValueError(
                f"{name}.{plane} is {tuple(planes[plane].shape)} of {planes[plane].dtype}: "
                f"the parts of the packed weight {name} do not fit {columns} columns"
            )
    scales = [(rows,), *((rows, columns // size) for size in GROUP_SIZES)]
    if tuple(scale.shape) not in scales or scale.dtype != torch.float32 or not scale.isfinite().all():
        raise ValueError(f"{name}.scale does not fit, or is not finite: the scales of {rows} rows of {columns} columns")
    if factors is not None and (factors.shape != (columns,) or not (factors > 0).all()):
        raise ValueError(f"{name}.factors do not fit {columns} columns, or are not above 0")
    laid_out = laid_out_by_group(scale) if scale.dim() == 2 else scale  # files know no strides
    high, mid, low = planes.values()
    return BitPlaneWeight(high, mid, low, laid_out, columns, _DTYPES[facts["dtype"]], factors, facts.get("rotation", 0))


def _check_facts(name: str, facts: object) -> None:
    if not isinstance(facts, dict) or not set(facts) <= set(_FIELDS):
        raise ValueError(f"the metadata {METADATA_KEY} is damaged: {name} has other fields than {_FIELDS}")
    columns, rotation = facts.get("columns"), facts.get("rotation", 0)
    if type(columns) is not int or columns < 1:
        raise ValueError(f"the metadata {METADATA_KEY} is damaged: {name} has columns={columns!r}")
    if facts.get("dtype") not in _DTYPES:
        raise ValueError(f"the metadata {METADATA_KEY} is damaged: {name} has dtype={facts.get('dtype')!r}")
    if type(rotation) is not int or (rotation and (rotation not in SIZES or columns % rotation)):
        raise ValueError(f"the metadata {METADATA_KEY} is damaged: {name} has rotation={rotation!r}")

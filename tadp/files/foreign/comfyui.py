"""ComfyUI's quantized checkpoints: int8 with a scale a row or a tensor, rotated (ConvRot) or not, and scaled float8.

A layer has ``weight``, ``weight_scale`` and ``comfy_quant``, the bytes of a JSON object that names the format; older
files name formats in the header's ``_quantization_metadata``, and the oldest float8 ones have ``scale_weight`` alone.
A rotated weight is ``W H``, for runs of so many columns, before it is rounded; see `tadp.kernels.rotation`.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch

from tadp.files.foreign import plain
from tadp.files.foreign.containers import Container
from tadp.files.foreign.pieces import Grid, Piece, fill_int8, row_piece
from tadp.files.foreign.tensors import Parts, RowCodes, Scheme, Stored
from tadp.files.shards import Slot
from tadp.kernels.rotation import rotate_by_product

NAME = "comfyui"

ROTATION = 256
"""Columns that ConvRot mixes unless a file says otherwise."""

ROTATIONS = (4, 16, 64, 256)
"""Columns that it may mix."""

_LEGACY = ("scale_weight", "weight_scale")
_MARK = "comfy_quant"
_METADATA = "_quantization_metadata"
_BESIDE = ("input_scale", "scale_input", _MARK, *_LEGACY)
"""What stands beside a quantized weight. Scales of activations are measured anew by whoever runs the model."""


def recognizes(container: Container) -> bool:
    """Whether any layer is marked as ComfyUI marks them."""
    return (
        _METADATA in container.metadata
        or any(key.endswith(f".{_MARK}") for key in container.facts)
        or any(_float8_scale(container, key) for key in container.facts)
    )


def read(container: Container) -> tuple[Stored, ...]:
    """All tensors.

    Raises:
        ValueError: for formats that are not read, and for layers that lack a part; names file and key.
    """
    dtype = plain.compute_dtype(container)
    marks = _marks(container)
    beside = {f"{layer}.{part}" for layer in marks for part in _BESIDE}
    found = []
    for layer in marks:
        if f"{layer}.weight" not in container.facts:
            raise ValueError(f"{container.path}: {layer} is marked as quantized, and has no weight")
    for key in container.facts:
        layer, _, leaf = key.rpartition(".")
        if key in beside or leaf == "scaled_fp8":  # the latter marks a file of float8, and says no more
            continue
        if leaf == "weight" and layer in marks:
            found.append(_quantized(container, layer, marks[layer], dtype))
        else:
            found.append(plain.stored(container, key, dtype))
    return tuple(found)


def piece(stored: Stored, layer: str, rotation: int) -> Piece:
    """A weight as an int8 layer with a scale a row.

    Args:
        stored: the weight.
        layer: its name in the file.
        rotation: columns that are rotated together; 0 for none.
    """
    said: dict[str, Any] = {"format": "int8_tensorwise"}
    if rotation:
        said |= {"convrot": True, "convrot_groupsize": rotation}
    mark = torch.frombuffer(bytearray(json.dumps(said).encode()), dtype=torch.uint8)
    key, scale_key, mark_key = f"{layer}.weight", f"{layer}.weight_scale", f"{layer}.{_MARK}"
    slots = (
        Slot(key, torch.int8, stored.shape),
        Slot(scale_key, torch.float32, (stored.shape[0], 1)),
        Slot(mark_key, torch.uint8, tuple(mark.shape)),
    )
    becomes = str(Scheme("int8", "row", rotation))
    return row_piece(stored, slots, GRID, rotation, becomes, fill_int8(key, scale_key), {mark_key: mark})


def encode(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round rows as ComfyUI does: ``(rows, columns)`` float32 to codes of int16 and ``(rows,)`` float32 scales."""
    scale = (rows.abs().amax(1) / 127.0).clamp(min=1e-30)
    return (rows / scale[:, None]).round_().clamp_(-128.0, 127.0).to(torch.int16), scale


GRID = Grid(-128, 127, signed=False, encode=encode, rotate=rotate_by_product)
"""What its int8 rows can hold."""


def _marks(container: Container) -> dict[str, Mapping[str, Any]]:
    """What the file says of each quantized layer."""
    marks: dict[str, Mapping[str, Any]] = {}
    if _METADATA in container.metadata:
        where = f"{container.path}: the metadata {_METADATA}"
        content = _object(container.metadata[_METADATA], where)
        layers = content.get("layers", content)
        if not isinstance(layers, dict):
            raise ValueError(f"{where} is damaged: its field 'layers' is no object")
        for layer, value in layers.items():
            if not isinstance(value, dict):
                raise ValueError(f"{where} is damaged: it says nothing of {layer}")
            marks[layer] = value
    for key, facts in container.facts.items():
        if key.endswith(f".{_MARK}"):
            if facts.dtype != torch.uint8:
                raise ValueError(f"{facts.file}: {key} is of {facts.dtype}, not the bytes of JSON")
            text = bytes(container.get(key).reshape(-1).tolist()).decode("utf-8", "replace")
            marks[key.removesuffix(f".{_MARK}")] = _object(text, f"{facts.file}: {key}")
        elif layer := _float8_scale(container, key):
            weight = container.facts[f"{layer}.weight"].dtype
            marks.setdefault(layer, {"format": str(weight).removeprefix("torch.")})
    return marks


def _float8_scale(container: Container, key: str) -> str:
    """The layer that a key is the scale of, if that layer is float8; else nothing."""
    layer, _, leaf = key.rpartition(".")
    weight = container.facts.get(f"{layer}.weight")
    return layer if leaf in _LEGACY and weight is not None and weight.dtype in plain.FLOAT8 else ""


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is damaged ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{where} is damaged: it holds no object")
    return content


def _quantized(container: Container, layer: str, said: Mapping[str, Any], dtype: torch.dtype) -> Stored:
    key = f"{layer}.weight"
    facts = container.facts[key]
    format_name = said.get("format")
    if format_name == "int8_tensorwise":
        return _int8(container, layer, said, dtype)
    if format_name in ("float8_e4m3fn", "float8_e5m2"):
        return _float8(container, layer, str(format_name), dtype)
    raise ValueError(
        f"{facts.file}: {layer} has the format {format_name!r}; tadp reads int8_tensorwise, float8_e4m3fn, float8_e5m2"
    )


def _int8(container: Container, layer: str, said: Mapping[str, Any], dtype: torch.dtype) -> Stored:
    key, scale_key = f"{layer}.weight", f"{layer}.weight_scale"
    facts = container.facts[key]
    if facts.dtype != torch.int8 or len(facts.shape) != 2:
        raise ValueError(f"{facts.file}: {key} is {facts.shape} of {facts.dtype}, not two dimensions of int8")
    rows, columns = facts.shape
    rotation = said.get("convrot_groupsize", ROTATION) if said.get("convrot") else 0
    if rotation and (rotation not in ROTATIONS or columns % rotation):
        raise ValueError(
            f"{facts.file}: {layer} has convrot_groupsize={rotation!r}, which does not fit {columns} columns"
        )
    container.need(scale_key, (torch.float32,), ((), (1,), (rows,), (rows, 1)), key)
    single = torch.Size(container.facts[scale_key].shape).numel() == 1 and rows != 1

    def load() -> Parts:
        codes = container.get(key)
        scale = finite(container, scale_key).reshape(-1).expand(rows).contiguous()

        def restore(start: int, stop: int) -> torch.Tensor:
            part = codes[start:stop].float() * scale[start:stop, None]
            return rotate_by_product(part, rotation) if rotation else part

        return Parts(restore, RowCodes(codes, scale, rotation))

    return Stored(
        key, key, facts.shape, dtype, load, Scheme("int8", "tensor" if single else "row", rotation, has_row_codes=True)
    )


def _float8(container: Container, layer: str, format_name: str, dtype: torch.dtype) -> Stored:
    key = f"{layer}.weight"
    facts = container.facts[key]
    if facts.dtype != getattr(torch, format_name) or not facts.shape:
        raise ValueError(f"{facts.file}: {key} is {facts.shape} of {facts.dtype}, but is marked as {format_name}")
    scale_key = next((f"{layer}.{leaf}" for leaf in _LEGACY if f"{layer}.{leaf}" in container.facts), "")
    if not scale_key:
        raise ValueError(f"{facts.file}: the quantized weight {key} lacks its part {layer}.weight_scale")
    rows = facts.shape[0]
    container.need(scale_key, (torch.float32, torch.bfloat16, torch.float16), ((), (1,), (rows,), (rows, 1)), key)
    single = torch.Size(container.facts[scale_key].shape).numel() == 1 and rows != 1

    def load() -> Parts:
        content = container.get(key)
        scale = finite(container, scale_key).float().reshape(-1).expand(rows)
        scale = scale.reshape(rows, *(1 for _ in facts.shape[1:]))
        return Parts(lambda start, stop: content[start:stop].float() * scale[start:stop])

    return Stored(key, key, facts.shape, dtype, load, Scheme(format_name, "tensor" if single else "row"))


def finite(container: Container, key: str) -> torch.Tensor:
    """Scales.

    Raises:
        ValueError: where one is NaN or infinite; names file and key.
    """
    scale = container.get(key)
    if not scale.float().isfinite().all():
        raise ValueError(f"{container.facts[key].file} is damaged: {key} holds NaN or infinity")
    return scale

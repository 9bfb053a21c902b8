"""Quantized weights as torchao and diffusers save them: int8 and float8, in safetensors files that describe them.

``layer.weight`` lies as ``layer._weight_qdata``, ``layer._weight_scale`` and, in some, ``layer._weight_zero_point``;
the header has a JSON object for each weight (`torchao.prototype.safetensors`).
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch

from tadp.files.foreign import plain
from tadp.files.foreign.comfyui import finite
from tadp.files.foreign.containers import Container
from tadp.files.foreign.pieces import Grid, Piece, fill_int8, row_piece
from tadp.files.foreign.tensors import Parts, RowCodes, Scheme, Stored
from tadp.files.shards import Slot

NAME = "torchao"

_NAMES = "tensor_names"
_QDATA = {"Int8Tensor": (torch.int8,), "Float8Tensor": plain.FLOAT8}
_SCALES = (torch.float32, torch.bfloat16, torch.float16)


def recognizes(container: Container) -> bool:
    """Whether headers describe tensors as torchao does."""
    return _NAMES in container.metadata


def read(container: Container) -> tuple[Stored, ...]:
    """All tensors.

    Raises:
        ValueError: for kinds of tensors that are not read, and for parts that are missing; names file and key.
    """
    where = f"{container.path}: the metadata"
    names = _json(container.metadata[_NAMES], f"{where} {_NAMES}")
    if not isinstance(names, list):
        raise ValueError(f"{where} {_NAMES} is damaged: it is no list")
    found, seen = [], set()
    for name in names:
        described = _json(container.metadata.get(name, "null"), f"{where} {name}")
        kind = described.get("_type") if isinstance(described, dict) else None
        if kind == "Tensor":
            if name not in container.facts:
                raise ValueError(f"{where} {_NAMES} has {name}, which no file holds")
            found.append(plain.stored(container, name, container.facts[name].dtype))
            seen.add(name)
        elif kind in _QDATA and isinstance(described.get("_data"), dict):
            stored, parts = _quantized(container, name, kind, described["_data"])
            found.append(stored)
            seen |= parts
        else:
            raise ValueError(f"{where} {name} describes a {kind!r}; tadp reads {', '.join(_QDATA)} of torchao")
    if unknown := [key for key in container.facts if key not in seen]:
        raise ValueError(f"{container.facts[unknown[0]].file}: no metadata describes {unknown[0]}")
    return tuple(found)


def part_keys(name: str, part: str) -> str:
    """The key of a part of a weight."""
    layer, _, leaf = name.rpartition(".")
    return f"{layer}._{leaf}_{part}" if layer else f"_{leaf}_{part}"


def piece(stored: Stored) -> Piece:
    """A weight as an int8 one with a scale a row."""
    keys = [part_keys(stored.name, part) for part in ("qdata", "scale", "zero_point")]
    rows = stored.shape[0]
    slots = (
        Slot(keys[0], torch.int8, stored.shape),
        Slot(keys[1], torch.float32, (rows, 1)),
        Slot(keys[2], torch.int8, (rows, 1)),
    )
    zero = {keys[2]: torch.zeros(rows, 1, dtype=torch.int8)}
    return row_piece(stored, slots, GRID, 0, str(Scheme("int8", "row")), fill_int8(keys[0], keys[1]), zero)


def encode(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round rows as torchao's ``Int8WeightOnlyConfig`` does: to codes of int16, and ``(rows,)`` float32 scales."""
    from torchao.quantization import Int8Tensor, PerRow

    rounded = Int8Tensor.from_hp(rows, PerRow())
    return rounded.qdata.to(torch.int16), rounded.scale.reshape(-1)


GRID = Grid(-128, 127, signed=False, encode=encode)
"""What its int8 rows can hold."""


def metadata_of(
    quantized: Mapping[str, tuple[tuple[int, ...], torch.dtype]], plain_names: Collection[str]
) -> dict[str, str]:
    """The header of a file, as torchao's own function has it.

    Args:
        quantized: int8 weights, with the shape and the type that each stands for.
        plain_names: of the other tensors.
    """
    from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
    from torchao.quantization import Int8Tensor

    state: dict[str, Any] = {}
    for name, (shape, dtype) in quantized.items():
        codes = torch.empty(shape, dtype=torch.int8, device="meta")
        scale = torch.empty(shape[0], 1, dtype=torch.float32, device="meta")
        zero = torch.empty(shape[0], 1, dtype=torch.int8, device="meta")
        state[name] = Int8Tensor(codes, scale, [1, shape[1]], dtype, zero_point=zero)
    # A dot in front lets torchao take names without one, which diffusers reads.
    state |= {f".{name}": torch.empty(0, device="meta") for name in plain_names}
    _, metadata = flatten_tensor_state_dict(state)
    described: dict[str, str] = {name.removeprefix("."): text for name, text in metadata.items()}
    described[_NAMES] = json.dumps([name.removeprefix(".") for name in state])
    return described


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is damaged ({error})") from error


def _quantized(container: Container, name: str, kind: str, data: Mapping[str, Any]) -> tuple[Stored, set[str]]:
    qdata, scale_key, zero_key = (part_keys(name, part) for part in ("qdata", "scale", "zero_point"))
    where = f"{container.path}: the metadata {name}"
    if qdata not in container.facts:
        raise ValueError(f"{container.path}: the quantized weight {name} lacks its part {qdata}")
    facts = container.facts[qdata]
    if facts.dtype not in _QDATA[kind] or len(facts.shape) != 2:
        raise ValueError(f"{facts.file}: {qdata} is {facts.shape} of {facts.dtype}, which is no {kind} of a linear")
    block = data.get("block_size")
    if not isinstance(block, list) or len(block) != 2 or not all(type(size) is int and size > 0 for size in block):
        raise ValueError(f"{where} is damaged: its field 'block_size' is {block!r}")
    declared = data.get("dtype")
    dtype = getattr(torch, str(declared.get("_data") if isinstance(declared, dict) else None), None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"{where} is damaged: its field 'dtype' is {declared!r}")
    if pre := [key for key in container.facts if key == part_keys(name, "act_pre_scale")]:
        raise ValueError(f"{facts.file}: {pre[0]} scales activations, which tadp does not follow")
    sizes = (-(-facts.shape[0] // block[0]), -(-facts.shape[1] // block[1]))
    shapes = (sizes, (sizes[0],)) if sizes[1] == 1 else (sizes,)
    shapes = (*shapes, ()) if sizes == (1, 1) else shapes
    container.need(scale_key, _SCALES, shapes, qdata)
    has_zero = zero_key in container.facts
    if has_zero:
        container.need(zero_key, (torch.int8,), shapes, qdata)
    has_row_codes = kind == "Int8Tensor" and sizes[1] == 1 and (block[0] == 1 or sizes[0] == 1)

    def load() -> Parts:
        content = container.get(qdata)
        scale = finite(container, scale_key).float().reshape(sizes)
        zero = container.get(zero_key).reshape(sizes) if has_zero else None

        def restore(start: int, stop: int) -> torch.Tensor:
            part = content[start:stop].float()
            if zero is not None:
                part = part - _spread(zero, block, start, stop, part.shape[1]).float()
            return part * _spread(scale, block, start, stop, part.shape[1])

        if not has_row_codes:
            return Parts(restore)
        rows = facts.shape[0]
        codes = content if zero is None or not zero.any() else content.to(torch.int16) - zero.expand(rows, 1)
        return Parts(restore, RowCodes(codes, scale.reshape(-1).expand(rows).contiguous()))

    format_name = str(facts.dtype).removeprefix("torch.")
    scheme = Scheme(format_name, _scales(sizes, block), has_row_codes=has_row_codes)
    stored = Stored(name, name, facts.shape, dtype, load, scheme)
    optional = ("act_quant_scale", "act_quant_zero_point")  # of activations, which are measured anew
    parts = {qdata, scale_key, zero_key, *(part_keys(name, part) for part in optional)}
    return stored, parts


def _spread(values: torch.Tensor, block: Sequence[int], start: int, stop: int, columns: int) -> torch.Tensor:
    """Values of blocks, for each row from `start` to `stop` and each column that they hold for."""
    rows = values[torch.arange(start, stop) // block[0]]
    return rows if rows.shape[1] == 1 else rows[:, torch.arange(columns) // block[1]]


def _scales(sizes: tuple[int, int], block: Sequence[int]) -> str:
    if sizes == (1, 1):
        return "tensor"
    if sizes[1] == 1:
        return "row" if block[0] == 1 else f"{block[0]} rows"
    return f"group of {block[1]}" if block[0] == 1 else f"tile of {block[0]}x{block[1]}"

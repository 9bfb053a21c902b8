"""TurboDiffusion's quantized checkpoints: PyTorch files with int8 weights and one scale a tile of 128 by 128.

A quantized linear has ``int8_weight`` ``(rows, columns)``, ``scale`` ``(rows / 128, columns / 128)``, rounded up, and
``bias``. The scale of a tile is its largest magnitude over 128, so that plus 128 saturates at 127.
"""

import torch

from tadp.files.foreign import plain
from tadp.files.foreign.comfyui import finite
from tadp.files.foreign.containers import Container
from tadp.files.foreign.pieces import Outcome, Piece, Tensors, said, squares
from tadp.files.foreign.tensors import TILE, Parts, Scheme, Stored, TileCodes, slices
from tadp.files.shards import Slot

NAME = "turbodiffusion"

_WEIGHT, _SCALE = "int8_weight", "scale"
_FLOOR = 1e-8
_TILES = Scheme("int8", f"tile of {TILE}x{TILE}")


def recognizes(container: Container) -> bool:
    """Whether any layer has an ``int8_weight``."""
    return any(key.endswith(f".{_WEIGHT}") for key in container.facts)


def read(container: Container) -> tuple[Stored, ...]:
    """All tensors.

    Raises:
        ValueError: for layers that lack a part, or whose parts do not fit; names file and key.
    """
    dtype = plain.compute_dtype(container)
    layers = {key.removesuffix(f".{_WEIGHT}") for key in container.facts if key.endswith(f".{_WEIGHT}")}
    scales = {f"{layer}.{_SCALE}" for layer in layers}
    found = []
    for key in container.facts:
        layer, _, leaf = key.rpartition(".")
        if leaf == _WEIGHT:
            found.append(_quantized(container, layer, dtype))
        elif key not in scales:
            found.append(plain.stored(container, key, dtype))
    return tuple(found)


def piece(stored: Stored, layer: str) -> Piece:
    """A weight as int8 tiles; tiles of the source are kept as they are.

    Args:
        stored: the weight.
        layer: its name in the file.
    """
    rows, columns = stored.shape
    slots = (
        Slot(f"{layer}.{_WEIGHT}", torch.int8, stored.shape),
        Slot(f"{layer}.{_SCALE}", torch.float32, (-(-rows // TILE), -(-columns // TILE))),
    )

    def make() -> tuple[Tensors, Outcome]:
        parts, signal, noise = stored.parts(), 0.0, 0.0
        if isinstance(parts.codes, TileCodes):
            held = {slots[0].key: parts.codes.codes, slots[1].key: parts.codes.scale}
            return held, Outcome(stored.name, said(stored), str(_TILES), rows, 0, signal, noise)
        codes, scale = (torch.empty(slot.shape, dtype=slot.dtype) for slot in slots)
        for start, stop in slices(rows, TILE):
            content = parts.rows(start, stop)
            if not content.isfinite().all():
                raise ValueError(f"{stored.key} holds NaN or infinity, and cannot be rounded")
            found, found_scale = encode(content)
            codes[start:stop], scale[start // TILE : -(-stop // TILE)] = found, found_scale
            more = squares(content, restore(found, found_scale, 0))
            signal, noise = signal + more[0], noise + more[1]
        outcome = Outcome(stored.name, said(stored), str(_TILES), rows, rows if noise else 0, signal, noise)
        return {slots[0].key: codes, slots[1].key: scale}, outcome

    return Piece(stored, slots, make)


def encode(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round tiles as TurboDiffusion does.

    Args:
        rows: ``(rows, columns)`` float32, from a row that is a multiple of 128.

    Returns:
        Codes ``(rows, columns)`` int8, and scales ``(rows / 128, columns / 128)``, rounded up, float32.
    """
    height, width = rows.shape
    padded = torch.nn.functional.pad(rows, (0, -width % TILE, 0, -height % TILE))
    tiles = padded.unflatten(1, (-1, TILE)).unflatten(0, (-1, TILE))  # (tiles, 128, tiles, 128)
    largest = tiles.abs().amax((1, 3)).clamp(min=_FLOOR)
    codes = (tiles * (128.0 / largest)[:, None, :, None]).round_().clamp_(-128.0, 127.0).to(torch.int8)
    return codes.flatten(2).flatten(0, 1)[:height, :width].contiguous(), largest / 128.0


def restore(codes: torch.Tensor, scale: torch.Tensor, start: int) -> torch.Tensor:
    """The weight that codes of rows from `start` on stand for, float32; `scale` is that of all rows."""
    rows = torch.arange(start, start + codes.shape[0]) // TILE
    columns = torch.arange(codes.shape[1]) // TILE
    return codes.float() * scale[rows][:, columns]


def _quantized(container: Container, layer: str, dtype: torch.dtype) -> Stored:
    key, scale_key = f"{layer}.{_WEIGHT}", f"{layer}.{_SCALE}"
    facts = container.facts[key]
    if facts.dtype != torch.int8 or len(facts.shape) != 2:
        raise ValueError(f"{facts.file}: {key} is {facts.shape} of {facts.dtype}, not two dimensions of int8")
    sizes = (-(-facts.shape[0] // TILE), -(-facts.shape[1] // TILE))
    container.need(scale_key, (torch.float32,), (sizes,), key)

    def load() -> Parts:
        codes, scale = container.get(key), finite(container, scale_key)
        return Parts(lambda start, stop: restore(codes[start:stop], scale, start), TileCodes(codes, scale))

    name = f"{layer}.weight"
    return Stored(name, name, facts.shape, dtype, load, _TILES)

"""What a checkpoint becomes in each format that is written: which tensors, in which order, under which names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from tadp.files.fingerprint import fingerprint_of_samples, sample
from tadp.files.foreign import comfyui, saved, torchao, turbodiffusion
from tadp.files.foreign.kinds import COMFYUI, COMFYUI_ROTATED, DIFFUSERS, TADP, TORCHAO
from tadp.files.foreign.names import stripped, to_wan
from tadp.files.foreign.pieces import Outcome, Piece, Tensors, plain_piece, rotation_for
from tadp.files.foreign.tensors import Checkpoint, Stored
from tadp.files.packed import flatten_state_dict
from tadp.files.saved import order_by_width
from tadp.files.shards import Slot
from tadp.kernels.rotation import SIZES

_BLOCKS = re.compile(r"(^|\.)\w*(blocks|layers)\.\d+\.")


@dataclass(frozen=True)
class Choice:
    """What is decided before anything is read.

    Attributes:
        dtype: compute type of the target.
        layers: that are quantized, by name, each with the rotation that tadp gives it.
        buffers: names of what is no parameter of the model.
        in_float32: parts of names whose tensors the model's class keeps in float32.
        is_wan: whether the model is a Wan transformer, whose own repository has other names.
    """

    dtype: torch.dtype
    layers: Mapping[str, int]
    buffers: frozenset[str] = frozenset()
    in_float32: tuple[str, ...] = ()
    is_wan: bool = False

    def dtype_of(self, stored: Stored) -> torch.dtype:
        """The type of a tensor that is not quantized."""
        if not stored.dtype.is_floating_point:
            return stored.dtype
        return torch.float32 if set(self.in_float32) & set(stored.name.split(".")) else self.dtype


@dataclass(frozen=True)
class Plan:
    """What will be written.

    Attributes:
        pieces: in the order in which they are made.
        slots: in the order of the files.
        metadata: of the files' headers.
        rotated: names of weights whose rows are rotated, where the target is tadp's own format.
        samples: of the parameters, filled while pieces are made, where the target needs a fingerprint.
    """

    pieces: tuple[Piece, ...]
    slots: tuple[Slot, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    rotated: tuple[str, ...] = ()
    samples: dict[str, bytes] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Of the parameters, when all pieces were made."""
        return fingerprint_of_samples(self.samples.items())


def linears_of(tensors: tuple[Stored, ...]) -> list[str]:
    """Layers of blocks with a matrix, by their names alone; without the ``proj_l`` of sparse-linear attention."""
    return [
        stored.name.removesuffix(".weight")
        for stored in tensors
        if stored.name.endswith(".weight")
        and len(stored.shape) == 2
        and _BLOCKS.search(stored.name)
        and "proj_l" not in stored.name
    ]


def plan_for(to: str, checkpoint: Checkpoint, choice: Choice) -> Plan:
    """What a checkpoint becomes in a format of `tadp.files.foreign.kinds.WRITTEN`.

    Raises:
        ValueError: where the format cannot hold the model.
    """
    if to == TADP:
        return _tadp(checkpoint, choice)
    if to == DIFFUSERS:
        pieces = tuple(plain_piece(stored, stored.name, choice.dtype_of(stored)) for stored in checkpoint.tensors)
        return Plan(pieces, _by_size(pieces))
    if to == TORCHAO:
        return _torchao(checkpoint, choice)
    if to in (COMFYUI, COMFYUI_ROTATED):
        return _comfyui(checkpoint, choice, comfyui.ROTATION if to == COMFYUI_ROTATED else 0)
    return _turbodiffusion(checkpoint, choice)


def _tadp(checkpoint: Checkpoint, choice: Choice) -> Plan:
    state: dict[str, torch.Tensor] = {}
    rotations: dict[str, int] = {}
    for stored in checkpoint.tensors:
        wanted = choice.layers.get(stored.name.removesuffix(".weight"))
        if wanted is not None:
            rotations[stored.name] = rotation_for(stored, wanted, SIZES)
            state[stored.name] = saved.meta(stored.shape, choice.dtype, rotations[stored.name])
        else:
            state[stored.name] = torch.empty(stored.shape, dtype=choice.dtype_of(stored), device="meta")
    tensors, metadata = flatten_state_dict(state)
    slots = {key: Slot(key, tensors[key].dtype, tuple(tensors[key].shape)) for key in tensors}
    samples: dict[str, bytes] = {}
    pieces = []
    for stored in checkpoint.tensors:
        name = stored.name
        if name in rotations:
            piece = saved.piece(stored, rotations[name])
        else:
            piece = plain_piece(stored, name, choice.dtype_of(stored))
        pieces.append(piece if name in choice.buffers else _sampled(piece, choice.dtype_of(stored), samples))
    ordered = tuple(slots[key] for key in order_by_width(tensors, metadata))
    rotated = tuple(name for name, rotation in rotations.items() if rotation)
    return Plan(tuple(pieces), ordered, metadata, rotated, samples)


def _torchao(checkpoint: Checkpoint, choice: Choice) -> Plan:
    pieces, quantized, plain = [], {}, []
    for stored in checkpoint.tensors:
        if stored.name.removesuffix(".weight") not in choice.layers:
            pieces.append(plain_piece(stored, stored.name, choice.dtype_of(stored)))
            plain.append(stored.name)
            continue
        quantized[stored.name] = (stored.shape, choice.dtype)
        pieces.append(torchao.piece(stored))
    found = tuple(pieces)
    return Plan(found, _by_size(found), torchao.metadata_of(quantized, plain))


def _comfyui(checkpoint: Checkpoint, choice: Choice, wanted: int) -> Plan:
    names = _own_names(checkpoint, choice)
    pieces = []
    for stored in checkpoint.tensors:
        key = names[stored.name]
        if stored.name.removesuffix(".weight") not in choice.layers:
            pieces.append(plain_piece(stored, key, choice.dtype_of(stored)))
            continue
        divides = wanted and stored.shape[1] % wanted == 0
        rotation = rotation_for(stored, wanted if divides else 0, comfyui.ROTATIONS)
        pieces.append(comfyui.piece(stored, key.removesuffix(".weight"), rotation))
    found = tuple(pieces)
    return Plan(found, _by_size(found))


def _turbodiffusion(checkpoint: Checkpoint, choice: Choice) -> Plan:
    if not choice.is_wan:
        raise ValueError("TurboDiffusion's files hold Wan transformers only")
    names = _own_names(checkpoint, choice)
    pieces = []
    for stored in checkpoint.tensors:
        key = names[stored.name]
        if stored.name.removesuffix(".weight") in choice.layers:
            pieces.append(turbodiffusion.piece(stored, key.removesuffix(".weight")))
        else:  # its patch embedding is a linear
            flat = (stored.shape[0], -1) if key == "patch_embedding.weight" else stored.shape
            shape = tuple(torch.empty(stored.shape, device="meta").reshape(flat).shape)
            pieces.append(plain_piece(stored, key, choice.dtype_of(stored), shape))
    found = tuple(pieces)
    return Plan(found, tuple(slot for piece in found for slot in piece.slots))


def _own_names(checkpoint: Checkpoint, choice: Choice) -> dict[str, str]:
    """The names in the model's own repository by diffusers' names; of other models than Wan these are not known."""
    keys = [stored.key for stored in checkpoint.tensors]
    if checkpoint.is_wan:
        return {stored.name: stripped(stored.key, keys) for stored in checkpoint.tensors}
    names = [stored.name for stored in checkpoint.tensors]
    return to_wan(names) if choice.is_wan else {name: name for name in names}


def _sampled(piece: Piece, dtype: torch.dtype, samples: dict[str, bytes]) -> Piece:
    """The same piece, whose tensor is sampled for the fingerprint of the model."""

    def make() -> tuple[Tensors, Outcome]:
        tensors, outcome = piece.make()
        name = piece.stored.name
        whole = tensors[name] if name in tensors else piece.stored.read().to(dtype)
        samples[name] = sample(name, whole)
        return tensors, outcome

    return Piece(piece.stored, piece.slots, make)


def _by_size(pieces: tuple[Piece, ...]) -> tuple[Slot, ...]:
    """Slots in an order in which each begins at a multiple of its type's size."""
    return tuple(sorted((slot for piece in pieces for slot in piece.slots), key=lambda slot: -slot.dtype.itemsize))

"""Packing a model's blocks, and moving packed weights from device to device."""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from tqdm import tqdm

from tadp.cache import cache_directory
from tadp.compiler.balancing import Balancing
from tadp.compiler.layers import BlockLinear, block_linears
from tadp.errors import PrecisionFallbackWarning
from tadp.families.family import Family
from tadp.files.codes import CodesDirectory, WeightCodes
from tadp.kernels.bitplanes import BitPlaneWeight, pack_linear_
from tadp.kernels.rotation import size_for
from tadp.precision import Role
from tadp.runtime.checkpoint import CheckpointMasters, find_places
from tadp.runtime.host_copies import HostCopies
from tadp.runtime.masters import SpillWriter, WrittenMasters
from tadp.runtime.pool import PlaneFile, WeightPool


@dataclass(frozen=True)
class Origin:
    """Where a model comes from whose weights were packed before.

    Attributes:
        fingerprint: of the model before they were; "" where nobody knows.
        packing: how they were packed, see `tadp.files.manifest`.
        masters: of layers that have some.
        planes: has the planes that weights were loaded without.
    """

    fingerprint: str = ""
    packing: Mapping[str, Any] = field(default_factory=dict)
    masters: CheckpointMasters | None = None
    planes: PlaneFile | None = None


@dataclass(frozen=True)
class Packing:
    """How weights are packed, and what is known of them.

    Attributes:
        group_size: as in pack_linear_.
        balancing: moves difficulty from activations into weights; None for none.
        rotated: roles whose columns are mixed by rotations, where any divides them.
        codes: that were chosen with data; their layers are packed with these, and rotated as these are.
        origin: of weights that are packed already.
        directories: where the model's files lie.
    """

    group_size: int | None = None
    balancing: Balancing | None = None
    rotated: Collection[Role] = ()
    codes: CodesDirectory | None = None
    origin: Origin | None = None
    directories: tuple[Path, ...] = ()


def pack_blocks(model: torch.nn.Module, family: Family, pool: WeightPool, how: Packing) -> tuple[BlockLinear, ...]:
    """Turn the linear weights of all blocks into bit planes, in place, and give them and their masters to the pool.

    Weights that are packed already stay as they are.

    Masters that the model's own files do not hold are written first: a full disk is met before anything has changed.
    Then layer after layer is packed, so that at no time more than one of them is in memory twice.

    Returns:
        All linear layers of the blocks. One with a reason stays at 16 bits, and a warning names it.

    Raises:
        OSError: where the masters cannot be written.
    """
    found = block_linears(model, family)
    linears = [linear for linear in found if not linear.reason and not linear.is_packed]
    for linear in found:
        if linear.reason:
            message = f"{linear.layer} stays at 16 bits: {linear.reason}"
            warnings.warn(message, PrecisionFallbackWarning, stacklevel=5)
    origin, codes = how.origin, how.codes
    masters = _masters(how.directories[:1], linears, None if origin is None else origin.masters)
    balancing = how.balancing
    factors = {} if balancing is None else balancing.factors({linear.layer: linear.module.weight for linear in linears})
    for linear in tqdm(linears, desc="packing weights", unit="layer", leave=False):
        chosen = None if codes is None else codes.of(linear.layer)
        if chosen is None or codes is None:
            rotation = size_for(linear.module.in_features) if linear.role in how.rotated else 0
            pack_linear_(linear.module, how.group_size, factors.get(linear.layer), rotation)
        else:
            _pack_codes(linear.module, chosen, codes.header.rotations.get(linear.layer, 0))
    if any(linear.module.weight.device.type == "cuda" for linear in linears):
        torch.cuda.empty_cache()  # the allocator keeps the room of the 16-bit weights otherwise
    adopted = [(linear.block, linear.layer, _packed(linear)) for linear in found if linear.is_packed]
    pool.adopt(adopted, masters, None if origin is None else origin.planes)
    return found


def _pack_codes(module: torch.nn.Linear, chosen: WeightCodes, rotation: int) -> None:
    codes, scale = (part.to(module.weight.device) for part in chosen)
    packed = BitPlaneWeight.from_codes(codes, scale, module.weight.dtype, rotation=rotation)
    module.weight = torch.nn.Parameter(packed, requires_grad=False)


def _masters(
    directories: Sequence[Path], linears: Sequence[BlockLinear], known: CheckpointMasters | None
) -> CheckpointMasters:
    """The weights of layers as they are: in the files that the model was loaded from, else written."""
    weights = {linear.layer: linear.module.weight for linear in linears}
    places = find_places(directories, weights)
    others = {layer: weight for layer, weight in weights.items() if layer not in places}
    return CheckpointMasters(places, spill(others) if others else None, known)


def spill(weights: Mapping[str, torch.Tensor]) -> WrittenMasters:
    """Write masters by layer into the cache.

    Raises:
        OSError: where they cannot be written.
    """
    directory = cache_directory() / "masters"
    writer: SpillWriter | None = None
    try:
        writer = SpillWriter(directory, weights)
        for layer, weight in tqdm(weights.items(), desc="writing masters", unit="layer", leave=False):
            writer.write(layer, weight)
        return writer.finish()
    except OSError as error:
        if writer is not None:
            writer.abort()
        raise OSError(
            f"cannot write 16-bit masters to {directory} ({error}): name another place in TADP_CACHE_DIR"
        ) from error


def move_packed(
    linears: Sequence[BlockLinear],
    copies: HostCopies,
    function: Callable[[torch.Tensor], torch.Tensor],
    rest: Callable[[], object],
) -> tuple[bool, object]:
    """Apply what `nn.Module.to` applies: to planes only the change of device, to everything else, by `rest`, all of it.

    What came back to main memory once is kept there in `copies`, and is not copied back another time.

    Packed weights are new objects afterwards: PyTorch would swap their contents in place, which it cannot do under a
    compiled graph.

    Returns:
        Whether packed weights were moved, and what `rest` returned.

    Raises:
        ValueError: where the floating type would change, for variants are compiled for the one they were packed from.
    """
    linears = [linear for linear in linears if "weight" in linear.module._parameters]  # else a call around moves them
    weights = [_packed(linear) for linear in linears]
    if not weights:
        return False, rest()
    device = target_of(linears, function, weights[0].device)
    try:
        result = without_packed(linears, rest)
    finally:
        if device != weights[0].device:
            both = zip(linears, weights, strict=True)
            weights = [copies.move(linear.layer, weight, device, _to) for linear, weight in both]
        for linear, weight in zip(linears, weights, strict=True):
            linear.module.weight = torch.nn.Parameter(weight, requires_grad=False)
    if any(linear.module.weight.device != device for linear in linears):
        raise RuntimeError(f"packed weights could not be moved to {device}")
    return True, result


def target_of(
    linears: Sequence[BlockLinear], function: Callable[[torch.Tensor], torch.Tensor], device: torch.device
) -> torch.device:
    """Where a function that `nn.Module.to` applies puts packed weights that are on a device.

    Raises:
        ValueError: where it would change their floating type.
    """
    dtype = next((linear.module.weight.dtype for linear in linears if "weight" in linear.module._parameters), None)
    if dtype is None:
        return device
    sample = function(torch.empty(0, dtype=dtype, device=device))
    if sample.dtype != dtype:
        raise ValueError(
            f"a compiled model stays {dtype}: convert it to {sample.dtype} first and compile it then "
            f"(from_pipe converts unless it is told torch_dtype={dtype})"
        )
    return sample.device


def without_packed(linears: Sequence[BlockLinear], rest: Callable[[], object]) -> object:
    """Call a function while layers are without their packed weights."""
    there = [linear.module for linear in linears if "weight" in linear.module._parameters]
    weights = [module._parameters.pop("weight") for module in there]
    try:
        return rest()
    finally:
        for module, weight in zip(there, weights, strict=True):
            module._parameters["weight"] = weight


def _to(weight: BitPlaneWeight, device: torch.device) -> BitPlaneWeight:
    return cast(BitPlaneWeight, weight.to(device))


def _packed(linear: BlockLinear) -> BitPlaneWeight:
    return cast(BitPlaneWeight, linear.module.weight)

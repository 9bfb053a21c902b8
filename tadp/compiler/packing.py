"""Packing a model's blocks, and moving packed weights from device to device."""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import cast

import torch
from tqdm import tqdm

from tadp.cache import cache_directory
from tadp.compiler.balancing import Balancing
from tadp.compiler.layers import BlockLinear, block_linears
from tadp.errors import PrecisionFallbackWarning
from tadp.families.family import Family
from tadp.files.automatic import weight_directories
from tadp.files.codes import CodesDirectory, WeightCodes
from tadp.kernels.bitplanes import BitPlaneWeight, pack_linear_
from tadp.kernels.rotation import size_for
from tadp.precision import Role
from tadp.runtime.checkpoint import CheckpointMasters, find_places
from tadp.runtime.host_copies import HostCopies
from tadp.runtime.masters import SpillWriter, WrittenMasters
from tadp.runtime.pool import WeightPool


def pack_blocks(
    model: torch.nn.Module,
    family: Family,
    pool: WeightPool,
    group_size: int | None = None,
    balancing: Balancing | None = None,
    rotated: Collection[Role] = (),
    codes: CodesDirectory | None = None,
) -> tuple[BlockLinear, ...]:
    """Turn the linear weights of all blocks into bit planes, in place, and give them and their masters to the pool.

    Masters that the model's own files do not hold are written first: a full disk is met before anything has changed.
    Then layer after layer is packed, so that at no time more than one of them is in memory twice. `group_size` is that
    of pack_linear_; with `balancing` difficulty moves from activations into weights; columns of the roles in `rotated`
    are mixed by rotations, where any divides them; layers of `codes` are packed with these, and rotated as these are.

    Returns:
        All linear layers of the blocks. One with a reason stays as it is, and a warning names it.

    Raises:
        OSError: where the masters cannot be written.
    """
    found = block_linears(model, family)
    linears = [linear for linear in found if not linear.reason]
    for linear in found:
        if linear.reason:
            message = f"{linear.layer} stays at 16 bits: {linear.reason}"
            warnings.warn(message, PrecisionFallbackWarning, stacklevel=5)
    masters = _masters(model, linears)
    factors = {} if balancing is None else balancing.factors({linear.layer: linear.module.weight for linear in linears})
    for linear in tqdm(linears, desc="packing weights", unit="layer", leave=False):
        chosen = None if codes is None else codes.of(linear.layer)
        if chosen is None or codes is None:
            rotation = size_for(linear.module.in_features) if linear.role in rotated else 0
            pack_linear_(linear.module, group_size, factors.get(linear.layer), rotation)
        else:
            _pack_codes(linear.module, chosen, codes.header.rotations.get(linear.layer, 0))
    if any(linear.module.weight.device.type == "cuda" for linear in linears):
        torch.cuda.empty_cache()  # the allocator keeps the room of the 16-bit weights otherwise
    pool.adopt([(linear.block, linear.layer, _packed(linear)) for linear in linears], masters)
    return found


def _pack_codes(module: torch.nn.Linear, chosen: WeightCodes, rotation: int) -> None:
    codes, scale = (part.to(module.weight.device) for part in chosen)
    packed = BitPlaneWeight.from_codes(codes, scale, module.weight.dtype, rotation=rotation)
    module.weight = torch.nn.Parameter(packed, requires_grad=False)


def _masters(model: torch.nn.Module, linears: Sequence[BlockLinear]) -> CheckpointMasters:
    """The weights of layers as they are: in the files that the model was loaded from, else written."""
    weights = {linear.layer: linear.module.weight for linear in linears}
    places = find_places(weight_directories(model)[:1], weights)
    others = {layer: weight for layer, weight in weights.items() if layer not in places}
    return CheckpointMasters(places, _spill(others) if others else None)


def _spill(weights: Mapping[str, torch.Tensor]) -> WrittenMasters:
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
    pool: WeightPool,
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
    weights = [_packed(linear) for linear in linears]
    if not weights:
        return False, rest()
    sample = function(torch.empty(0, dtype=weights[0].dtype, device=weights[0].device))
    if sample.dtype != weights[0].dtype:
        raise ValueError(
            f"a compiled model stays {weights[0].dtype}: convert it to {sample.dtype} first and compile it then"
        )
    for linear in linears:
        del linear.module._parameters["weight"]
    try:
        result = rest()
    finally:
        if sample.device != weights[0].device:
            both = zip(linears, weights, strict=True)
            weights = [copies.move(linear.layer, weight, sample.device, _to) for linear, weight in both]
        for linear, weight in zip(linears, weights, strict=True):
            linear.module.weight = torch.nn.Parameter(weight, requires_grad=False)
    if any(linear.module.weight.device != sample.device for linear in linears):
        raise RuntimeError(f"packed weights could not be moved to {sample.device}")
    moved = [(linear.block, linear.layer, _packed(linear)) for linear in linears]
    return pool.replace(moved), result


def _to(weight: BitPlaneWeight, device: torch.device) -> BitPlaneWeight:
    return cast(BitPlaneWeight, weight.to(device))


def _packed(linear: BlockLinear) -> BitPlaneWeight:
    return cast(BitPlaneWeight, linear.module.weight)

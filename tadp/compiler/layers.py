"""The linear layers inside a model's blocks, and why some of them cannot be packed."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from tadp.families import family_of
from tadp.families.blocks import block_paths
from tadp.families.family import Family
from tadp.kernels.bitplanes import DTYPES, BitPlaneWeight
from tadp.precision import Role


@dataclass(frozen=True)
class BlockLinear:
    """A linear layer inside a block, both by their paths from the model.

    Attributes:
        role: as far as its name and shape tell; None where they do not.
        reason: why its weight is not to be quantized; "" where it may be.
    """

    block: str
    layer: str
    module: torch.nn.Linear
    role: Role | None = None
    reason: str = ""

    @property
    def is_packed(self) -> bool:
        """Whether its weight is in bit planes already."""
        return isinstance(self.module.weight, BitPlaneWeight)


def block_linears(model: torch.nn.Module, family: Family | None = None) -> tuple[BlockLinear, ...]:
    """Every linear layer inside a block; one that several blocks share comes once for each of them."""
    family = family_of(model) if family is None else family
    found = [
        (block, f"{block}.{name}", module)
        for block in block_paths(model, family)
        for name, module in model.get_submodule(block).named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    owners: dict[int, list[str]] = {}
    for _, layer, module in found:
        owners.setdefault(id(module.weight), []).append(layer)
    roles = [family.role(layer[len(block) + 1 :], *module.weight.shape) for block, layer, module in found]
    return tuple(
        BlockLinear(block, layer, module, role, _obstacle(layer[len(block) + 1 :], module.weight, role, family, owners))
        for (block, layer, module), role in zip(found, roles, strict=True)
    )


def _obstacle(
    name: str, weight: torch.Tensor, role: Role | None, family: Family, owners: Mapping[int, list[str]]
) -> str:
    if declared := family.reason_at_16(name):
        return declared
    if len(owners[id(weight)]) > 1:
        return f"its weight is shared by {' and '.join(owners[id(weight)])}"
    if isinstance(weight, BitPlaneWeight):
        return "" if role is not None else "neither its name nor its shape tells its role"
    if type(weight) is not torch.nn.Parameter or weight.dtype not in DTYPES:
        return f"its weight is a {type(weight).__name__} of {weight.dtype}, not a plain floating parameter"
    if role is None:
        return "neither its name nor its shape tells its role"
    if not weight.isfinite().all():
        return "its weight holds NaN or infinity"
    return ""

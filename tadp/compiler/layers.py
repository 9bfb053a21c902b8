"""The linear layers inside a model's blocks, and why some of them cannot be packed."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from tadp.families import family_of
from tadp.families.blocks import block_paths
from tadp.families.family import Family, plain_name
from tadp.families.names import is_adapter
from tadp.kernels.bitplanes import DTYPES, BitPlaneWeight
from tadp.kernels.planes import is_finite
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
    """Every linear layer inside a block; one that several blocks share comes once for each of them.

    Adapters of layers are left out, and layers that have some are named as if they had none.
    """
    family = family_of(model) if family is None else family
    found = [
        (block, plain_name(f"{block}.{name}"), module, _computes_with_weights(model, f"{block}.{name}"))
        for block in block_paths(model, family)
        for name, module in model.get_submodule(block).named_modules()
        if isinstance(module, torch.nn.Linear) and not is_adapter(name)
    ]
    owners: dict[int, list[str]] = {}
    for _, layer, module, _ in found:
        owners.setdefault(id(module.weight), []).append(layer)
    rows = []
    for block, layer, module, adapted in found:
        name = layer[len(block) + 1 :]
        role = family.role(name, *module.weight.shape)
        reason = _obstacle(name, module.weight, role, family, owners, adapted)
        rows.append(BlockLinear(block, layer, module, role, reason))
    return tuple(rows)


def _computes_with_weights(model: torch.nn.Module, path: str) -> str:
    """Why the adapter around a layer needs its 16-bit weight; "" where it does not, and without an adapter."""
    parent, _, leaf = path.rpartition(".")
    variants = getattr(model.get_submodule(parent), "lora_variant", None) if leaf == "base_layer" else None
    kinds = sorted({getattr(kind, "__name__", type(kind).__name__) for kind in (variants or {}).values()})
    return f"its adapter computes with it ({', '.join(kinds)})" if kinds else ""


def _obstacle(
    name: str, weight: torch.Tensor, role: Role | None, family: Family, owners: Mapping[int, list[str]], adapted: str
) -> str:
    if declared := family.reason_at_16(name):
        return declared
    if adapted:
        return adapted
    if len(owners[id(weight)]) > 1:
        return f"its weight is shared by {' and '.join(owners[id(weight)])}"
    if isinstance(weight, BitPlaneWeight):
        return "" if role is not None else "neither its name nor its shape tells its role"
    if type(weight) is not torch.nn.Parameter or weight.dtype not in DTYPES:
        return f"its weight is a {type(weight).__name__} of {weight.dtype}, not a plain floating parameter"
    if role is None:
        return "neither its name nor its shape tells its role"
    if weight.device.type != "meta" and not is_finite(weight):
        return "its weight holds NaN or infinity"
    return ""

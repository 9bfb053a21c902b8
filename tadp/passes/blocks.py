"""Where the repeated blocks of a model are, found on its module tree before anything is captured."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from tadp.kernels.bitplanes import DTYPES
from tadp.passes.annotate import role_of


@dataclass(frozen=True)
class BlockLinear:
    """A linear layer inside a block, both by their paths from the model."""

    block: str
    layer: str
    module: torch.nn.Linear


def block_paths(model: torch.nn.Module) -> tuple[str, ...]:
    """Paths of the model's blocks: modules of one class, two or more of them in one list, that hold linear layers.

    Of nested lists the outermost counts. Lists of different classes (double- and single-stream blocks) are all found.
    """
    found: list[str] = []
    for path, module in model.named_modules():
        if not isinstance(module, (torch.nn.ModuleList, torch.nn.Sequential)):
            continue
        if any(path.startswith(f"{block}.") for block in found):
            continue
        kinds = Counter(type(child) for child in module.children())
        for index, child in module.named_children():
            if kinds[type(child)] > 1 and _holds_linear(child):
                found.append(f"{path}.{index}" if path else index)
    return tuple(found)


def block_linears(model: torch.nn.Module) -> Iterator[BlockLinear]:
    """Every linear layer inside a block; `unpackable` says of each whether its weight can become bit planes."""
    for block in block_paths(model):
        for name, module in model.get_submodule(block).named_modules():
            if isinstance(module, torch.nn.Linear):
                yield BlockLinear(block, f"{block}.{name}", module)


def unpackable(linear: BlockLinear) -> str:
    """Why a layer's weight has to stay as it is; "" where it can be packed."""
    weight = linear.module.weight
    if type(weight) is not torch.nn.Parameter or weight.dtype not in DTYPES:
        return f"its weight is a {type(weight).__name__} of {weight.dtype}, not a plain floating parameter"
    if role_of(linear.layer, *weight.shape) is None:
        return "neither its name nor its shape tells its role"
    if not weight.isfinite().all():
        return "its weight holds NaN or infinity"
    return ""


def _holds_linear(module: torch.nn.Module) -> bool:
    return not isinstance(module, torch.nn.Linear) and any(isinstance(m, torch.nn.Linear) for m in module.modules())

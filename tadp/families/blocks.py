"""Where the repeated blocks of a model are, found on its module tree before anything is captured."""

from collections import Counter
from collections.abc import Iterator

import torch

from tadp.families.family import Family
from tadp.families.names import KEY_VALUE, QUERY

_LISTS = (torch.nn.ModuleList, torch.nn.Sequential)
_LEAST_LINEARS = 2
"""Linear layers of a block: what holds a single one, such as a projection of the prompt for each layer, is none."""


def block_paths(model: torch.nn.Module, family: Family) -> tuple[str, ...]:
    """Paths of a model's blocks in running order: of the lists that its family declares, else of those that look alike.

    A list looks like one of blocks where it holds two or more modules of one class, or a single one that attends, each
    with two linear layers or more. Lists within lists are followed to the modules that are called. What lies inside a
    block is part of it.
    """
    declared = [path for path in family.blocks if _child(model, path) is not None]
    if declared:
        return tuple(block for path in declared for block in _blocks_of(path, _child(model, path)))
    found: list[str] = []
    for path, module in model.named_modules():
        if isinstance(module, _LISTS) and not path.startswith(tuple(f"{block}." for block in found)):
            found += [block for block in _repeated(path, module) if block not in found]
    return tuple(found)


def _child(model: torch.nn.Module, path: str) -> torch.nn.Module | None:
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _blocks_of(path: str, modules: torch.nn.Module | None) -> Iterator[str]:
    """All modules with linear layers in a declared list, and in lists within it; also a single block."""
    if not isinstance(modules, (*_LISTS, torch.nn.ModuleDict)):
        yield path
        return
    for name, child in modules.named_children():
        inner = f"{path}.{name}"
        if isinstance(child, (torch.nn.ModuleList, torch.nn.ModuleDict)):
            yield from _blocks_of(inner, child)
        elif _linears(child) and not isinstance(child, torch.nn.Linear):
            yield inner


def _repeated(path: str, modules: torch.nn.Module) -> Iterator[str]:
    kinds = Counter(type(child) for child in modules.children())
    for name, child in modules.named_children():
        if (
            isinstance(child, (torch.nn.ModuleList, torch.nn.ModuleDict, torch.nn.Linear))
            or len(_linears(child)) < _LEAST_LINEARS
        ):
            continue
        if isinstance(child, torch.nn.Sequential) and any(_repeated("", child)):
            continue  # its own children are the blocks
        if kinds[type(child)] > 1 or _attends(child):
            yield f"{path}.{name}" if path else name


def _linears(module: torch.nn.Module) -> list[str]:
    return [name for name, found in module.named_modules() if isinstance(found, torch.nn.Linear)]


def _attends(module: torch.nn.Module) -> bool:
    """Whether a module has layers for queries and for keys or values, which a block has and an embedding has not."""
    names = _linears(module)
    fused = any("qkv" in name.rpartition(".")[2] for name in names)
    return fused or (any(map(QUERY.search, names)) and any(map(KEY_VALUE.search, names)))

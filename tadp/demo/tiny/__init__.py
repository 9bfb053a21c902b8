"""Tiny random models of every transformer that diffusers exports, for tests and for the table of models."""

import importlib
import pkgutil

from tadp.demo.tiny.tiny import Tiny

__all__ = ["Tiny", "all_tiny", "exported", "tiny_of"]


def all_tiny() -> tuple[Tiny, ...]:
    """Every tiny model, by the name of its class."""
    files = [name for _, name, _ in pkgutil.iter_modules(__path__) if name != "tiny"]
    found = [tiny for file in files for tiny in importlib.import_module(f"{__name__}.{file}").TINY]
    return tuple(sorted(found, key=lambda tiny: str(tiny.name)))


def tiny_of(name: str) -> Tiny:
    """The tiny model of a class.

    Raises:
        LookupError: where there is none.
    """
    for tiny in all_tiny():
        if tiny.name == name:
            return tiny
    raise LookupError(f"there is no tiny model of {name}; add one to tadp/demo/tiny")


def exported() -> tuple[str, ...]:
    """Names of all transformer classes that the installed diffusers exports."""
    import diffusers
    import torch

    found = []
    for name in sorted(name for name in dir(diffusers) if name[0].isupper()):
        kind = getattr(diffusers, name, None)
        is_model = isinstance(kind, type) and issubclass(kind, torch.nn.Module)
        if is_model and kind.__module__.startswith("diffusers.models.transformers"):
            found.append(name)
    return tuple(found)

"""Families of models: a declaration a file, and the rules for classes that nobody declared."""

import torch

from tadp.families.family import Family
from tadp.families.generic import GENERIC

FAMILIES: list[Family] = []
"""All declared families."""


def register(family: Family) -> Family:
    """Declare a family. Its classes are known from then on; a class that was declared before is declared anew.

    Raises:
        ValueError: for a family without classes.
    """
    if not family.classes:
        raise ValueError(f"the family {family.name!r} names no classes")
    FAMILIES.insert(0, family)
    return family


def family_of(model: torch.nn.Module) -> Family:
    """The family of a model, by its class or one that it derives from; `GENERIC` where none is declared."""
    for kind in type(model).__mro__:
        for family in FAMILIES:
            if kind.__name__ in family.classes:
                return family
    return GENERIC

"""The exact text of a value: different values have different texts, and a value has the same text in every process."""

import dataclasses
import hashlib
import importlib
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

LONGEST = 64
"""Characters of a text that `short` leaves as it is."""


def exact(value: object) -> str:
    """The text of a setting: numbers to the last digit, functions and classes by the names they are imported by.

    Fields of dataclasses that take no part in comparisons are left out.

    Raises:
        ValueError: for functions and classes that cannot be imported by their name, such as lambdas.
        TypeError: for values of other types than numbers, texts, enumerations, collections, dataclasses and functions.
    """
    if isinstance(value, Enum):
        return f"{import_path(type(value))}.{value.name}"
    if value is None or isinstance(value, (bool, str, bytes)):
        return repr(value)
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, (list, tuple)):
        items = ",".join(map(exact, value))
        return f"[{items}]" if isinstance(value, list) else f"({items})"
    if isinstance(value, (set, frozenset)):
        return f"set({','.join(sorted(map(exact, value)))})"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{exact(key)}:{exact(item)}" for key, item in value.items()) + "}"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        compared = (item.name for item in dataclasses.fields(value) if item.compare)
        return f"{import_path(type(value))}({','.join(f'{name}={exact(getattr(value, name))}' for name in compared)})"
    if callable(value) and hasattr(value, "__qualname__"):
        return import_path(value)
    raise TypeError(f"a {type(value).__name__} has no exact text: a policy's settings are values and functions")


def short(text: str) -> str:
    """An exact text, or its SHA-256 where it is long."""
    return text if len(text) <= LONGEST else f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def import_path(named: Any) -> str:
    """Module and name of a class or a function.

    Raises:
        ValueError: where another thing, or none, stands there.
    """
    found: object = importlib.import_module(named.__module__)
    for part in named.__qualname__.split("."):
        found = getattr(found, part, None)
    path = f"{named.__module__}.{named.__qualname__}"
    if found is not named:
        raise ValueError(f"{path} cannot be imported by this name: define it at the top of a module")
    return path


def _number(value: float) -> str:
    """Equal numbers have equal texts, whether they are integers or not."""
    whole = isinstance(value, int) or (math.isfinite(value) and value.is_integer())
    return repr(int(value)) if whole else repr(float(value))

"""How settings stand in the name of a policy: ``low=0.2,high=0.8``, in any order, those at their default left out."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from tadp.precision import Recipe

if TYPE_CHECKING:
    from tadp.policy.policy import Policy


class Setting(NamedTuple):
    """How one field of a policy is read and written.

    Attributes:
        field: of the policy.
        read: from what stands behind the equals sign; raises ValueError.
        write: the inverse of `read`.
    """

    field: str
    read: Callable[[str], Any]
    write: Callable[[Any], str]


Settings = Mapping[str, Setting]
"""By the name that stands before the equals sign."""


def read(items: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Fields of a policy from items such as "low=0.2".

    Raises:
        ValueError: for a setting that is unknown, that stands twice, or whose value cannot be read.
    """
    found: dict[str, Any] = {}
    for item in items:
        name, _, text = (part.strip() for part in item.partition("="))
        setting = settings.get(name.lower())
        if setting is None:
            raise ValueError(f"{item.strip()!r} is no setting; settings are {', '.join(settings)}")
        if setting.field in found:
            raise ValueError(f"{name!r} stands twice")
        try:
            found[setting.field] = setting.read(text)
        except ValueError as error:
            raise ValueError(f"{item.strip()!r}: {error}") from error
    return found


def write(policy: "Policy", settings: Settings) -> list[str]:
    """The settings of a policy that differ from their defaults, as items."""
    defaults = {item.name: item.default for item in dataclasses.fields(policy)}  # type: ignore[arg-type]
    values = {name: getattr(policy, setting.field) for name, setting in settings.items()}
    return [
        f"{name}={setting.write(values[name])}"
        for name, setting in settings.items()
        if values[name] != defaults[setting.field]
    ]


def items(text: str) -> list[str]:
    """What commas part; nothing in an empty text."""
    return text.split(",") if text.strip() else []


def number(text: str) -> float:
    """Read a number.

    Raises:
        ValueError: for anything else.
    """
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None


def digits(value: float) -> str:
    """Write a number, with as many digits as it takes to read the same number."""
    rounded = f"{value:g}"
    return rounded if float(rounded) == value else repr(float(value))


def whole(text: str) -> int:
    """Read a whole number.

    Raises:
        ValueError: for anything else.
    """
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None


def keeps_ends(text: str) -> bool:
    """Read whether first and last block stay at 16 bits.

    Raises:
        ValueError: unless it is "16" or "free".
    """
    if text.lower() not in ("16", "free"):
        raise ValueError("ends are 16 or free")
    return text == "16"


def recipes(text: str) -> tuple[Recipe, ...]:
    """Read recipes that slashes part, such as ``16/8+attention:8``.

    Raises:
        ValueError: for an unknown level or role.
    """
    return tuple(Recipe.parse(recipe.lower()) for recipe in text.split("/"))


def numbers(*names: str) -> Settings:
    """Settings that are numbers and are called like their fields."""
    return {name: Setting(name, number, digits) for name in names}


ENDS = Setting("keep_ends", keeps_ends, lambda kept: "16" if kept else "free")
PROBE = Setting("probe_steps", whole, str)
RECIPES = Setting("recipes_allowed", recipes, lambda allowed: "/".join(map(str, allowed)))

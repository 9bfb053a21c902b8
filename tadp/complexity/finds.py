"""What a language's reader finds in a prompt, before it becomes numbers."""

from collections.abc import Iterable
from dataclasses import dataclass

CHANGE, MOTION, STIR, ACTION = 1.5, 1.0, 0.5, 0.3  # what a verb adds to temporal dynamics, by what it does
ORDER, PACE = 1.0, 0.3  # "then", "slowly"
PLACE = 0.4  # "on": what the commonest places add to spatial relations, where others add 1
_DESCRIPTION, _MOST_DESCRIPTIONS = 0.25, 3


@dataclass(frozen=True)
class Find:
    """One counted place of a prompt.

    Attributes:
        words: the words as they stand in the prompt.
        weight: how much they count, above 0.
        start: where they begin, in characters.
    """

    words: str
    weight: float
    start: int


@dataclass(frozen=True)
class Finds:
    """All finds of a prompt: things and actions, relations, changes, each in the order of the prompt."""

    things: tuple[Find, ...] = ()
    actions: tuple[Find, ...] = ()
    relations: tuple[Find, ...] = ()
    changes: tuple[Find, ...] = ()


def in_order(finds: Iterable[Find]) -> tuple[Find, ...]:
    """Finds as they follow each other in the prompt."""
    return tuple(sorted(finds, key=lambda find: find.start))


def described(descriptions: int) -> float:
    """Weight of a thing with a number of describing words."""
    return 1.0 + _DESCRIPTION * min(descriptions, _MOST_DESCRIPTIONS)

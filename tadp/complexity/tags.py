"""Classes of words, what a word of each counts, and how classified words become the finds of a prompt.

For readers that tell each word's class by themselves; :mod:`tadp.complexity.english` finds without these.
"""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from tadp.complexity.finds import ACTION, CHANGE, MOTION, ORDER, PACE, PLACE, STIR, Find, Finds, described


class Tag(NamedTuple):
    """What a word of a class counts.

    Attributes:
        role: "name" for a thing's own name, "description" for what stands in the name beside it, "action" for a verb
            of action, "phrase" for what counts once with neighbours of its class ("in front of"), "" for none of these.
        relation: what it adds to spatial relations.
        change: what it adds to temporal dynamics.
    """

    role: str = ""
    relation: float = 0.0
    change: float = 0.0


class Word(NamedTuple):
    """A word or a mark of a text, from character `start` up to `stop`, and its class, a key of `TAGS`."""

    start: int
    stop: int
    kind: str


TAGS = {
    "other": Tag(),
    "thing": Tag("name"),
    "event": Tag("name", change=ORDER),
    "description": Tag("description"),
    "unrest": Tag("description", change=STIR),
    "action": Tag("action", change=ACTION),
    "stir": Tag("action", change=STIR),
    "motion": Tag("action", change=MOTION),
    "encounter": Tag("action", relation=1.0, change=MOTION),
    "change": Tag("action", change=CHANGE),
    "relation": Tag("phrase", relation=1.0),
    "place": Tag("phrase", relation=PLACE),
    "order": Tag("phrase", change=ORDER),
    "pace": Tag("phrase", change=PACE),
}
"""Classes in the order of the outputs of `bert_head.safetensors`. Encounters are motions such as "orbits"."""


def gather(text: str, words: Iterable[Word]) -> Finds:
    """What the words of a text count; words and marks in the order of the text, marks as "other"."""
    things: dict[str, Find] = {}
    actions: list[Find] = []
    relations: list[Find] = []
    changes: list[Find] = []
    for _, group in itertools.groupby(words, key=_run):
        run = list(group)
        if any(TAGS[word.kind].role == "name" for word in run):
            name = text[run[0].start : run[-1].stop]
            things.setdefault(name, Find(name, described(len(run) - 1), run[0].start))
        if TAGS[run[0].kind].role == "phrase":
            run = [Word(run[0].start, run[-1].stop, run[0].kind)]
        for start, stop, kind in run:
            role, relation, change = TAGS[kind]
            form = text[start:stop]
            if role == "action":
                actions.append(Find(form, 1.0, start))
            if relation:
                relations.append(Find(form, relation, start))
            if change:
                changes.append(Find(form, change, start))
    return Finds(tuple(things.values()), tuple(actions), tuple(relations), tuple(changes))


def _run(word: Word) -> str:
    """What neighbours must share to be taken together: the name they stand in, or else their class."""
    return "name" if TAGS[word.kind].role in ("name", "description") else word.kind

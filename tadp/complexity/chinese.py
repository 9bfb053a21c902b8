"""Things, actions, relations and changes of the Chinese part of a prompt.

`rjieba` cuts the text into words and gives each a part of speech; OpenCC turns traditional characters into simplified
ones before. Which verbs move or change something is told by `lexicon.chinese`, for most by a character they contain.
"""

import functools
import re
from collections.abc import Callable
from typing import NamedTuple, cast

from tadp.complexity.finds import ACTION, CHANGE, MOTION, ORDER, PACE, PLACE, STIR, Find, Finds, described
from tadp.complexity.lexicon import chinese as lexicon
from tadp.extras import need

RUN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MODIFIERS = ("a", "ad", "ag", "an", "b", "z", "i", "l")
_MOVING = lexicon.MOTION_CHARACTERS | lexicon.CHANGE_CHARACTERS | {"过"}


class _Reading(NamedTuple):
    """What is known of a word before its neighbours are looked at.

    Attributes:
        kind: "noun", "modifier", "action", "state", "style", "link" within a thing's name, or "break".
        names: whether it can name a thing by itself.
        relation: what it adds to spatial relations.
        change: what it adds to temporal dynamics.
    """

    kind: str
    names: bool
    relation: float
    change: float


def find(text: str) -> Finds:
    """Read a prompt; what is not written in Chinese characters only keeps words apart."""
    relations: list[Find] = []
    changes: list[Find] = []
    actions: list[Find] = []
    things: dict[str, Find] = {}
    run: list[bool] = []  # of the words of a thing's name, which begins at `begin` and ends at `end`: do they name it?
    begin = end = start = 0
    tokens = _tokens(text)
    for (word, part), (after, _) in zip(tokens, [*tokens[1:], ("", "x")], strict=True):
        kind, names, relation, change = read_word(word, part, after == "的")
        stop = start + len(word)
        if kind in ("noun", "modifier"):
            begin, end = begin if run else start, stop
            run.append(names)
        elif kind != "link" or after in lexicon.STYLE:  # 莲花的特写 names a thing and then the picture
            if kind != "style" and any(run):  # 暖色调 and what describes it is no thing
                things.setdefault(text[begin:end], Find(text[begin:end], described(len(run) - 1), begin))
            run = []
        if kind == "action":
            actions.append(Find(text[start:stop], 1.0, start))
        if relation:
            relations.append(Find(text[start:stop], relation, start))
        if change:
            changes.append(Find(text[start:stop], change, start))
        start = stop
    if any(run):
        things.setdefault(text[begin:end], Find(text[begin:end], described(len(run) - 1), begin))
    return Finds(tuple(things.values()), tuple(actions), tuple(relations), tuple(changes))


@functools.lru_cache(maxsize=1)
def _converter() -> Callable[[str], str]:
    # Both libraries are only loaded once a prompt is in Chinese.
    converter = need("opencc", "text", "scores of Chinese prompts need opencc").OpenCC("t2s")
    return cast(Callable[[str], str], converter.convert)


@functools.lru_cache(maxsize=1)
def _tagger() -> Callable[[str], list[tuple[str, str]]]:
    return cast(
        Callable[[str], list[tuple[str, str]]], need("rjieba", "text", "scores of Chinese prompts need rjieba").tag
    )


def _tokens(text: str) -> list[tuple[str, str]]:
    """Words in simplified characters, as long as they are in the text, and their parts of speech (ICTCLAS)."""
    text = _SURROGATE.sub(" ", text)  # half a character cannot be handed to a library that speaks UTF-8
    simplified = _converter()(text)
    if len(simplified) != len(text):  # phrases that OpenCC makes longer or shorter are read as they are
        simplified = RUN.sub(_keep_length, text)
    return _tagger()(simplified)


def _keep_length(match: re.Match[str]) -> str:
    simplified = _converter()(match.group())
    return simplified if len(simplified) == len(match.group()) else match.group()


@functools.lru_cache(maxsize=16_384)
def read_word(word: str, part: str, describes: bool) -> _Reading:
    """Read one word; `describes` where 的 follows."""
    kind = _kind(word, part, describes)
    if kind in ("link", "style"):
        return _Reading(kind, False, 0.0, 0.0)
    return _Reading(kind, part not in _MODIFIERS, _relation(word, part, kind), _change(word, kind))


def _kind(word: str, part: str, describes: bool) -> str:
    if part in ("x", "eng") and not RUN.search(word):
        return "break"
    if part in ("uj", "k") or word in ("的", "们"):
        return "link"
    if word in lexicon.STYLE:
        return "style"
    if word in _BREAKS or (word[-1] == "地" and part[0] in "zad"):
        return "break"
    if _is_verb(word, part):
        stem = _stem(word)
        if word in lexicon.STATES or stem in lexicon.STATES or word.endswith("满"):
            return "state"
        if describes and _verb_weight(stem) == CHANGE:
            return "modifier"  # 破碎的花瓶
        return "action"
    if part in _MODIFIERS or word in lexicon.UNREST:
        return "modifier"
    if part in ("f", "t"):
        return "break"
    return "noun" if part[0] in "nsxgzj" or part == "eng" else "break"


def _is_verb(word: str, part: str) -> bool:
    if word in _VERBS:
        return True
    if part[0] == "v" or (part == "ug" and len(word) > 1):  # 跳过
        return part != "vn" or _verb_weight(word) > ACTION
    return part in ("a", "d", "zg", "g") and len(word) > 1 and _MOVING.issuperset(word)  # 越过, 漂流


def _stem(verb: str) -> str:
    """A verb without the particle that it was cut with: 坐 for 坐在 and 坐着."""
    return verb[:-1] if len(verb) > 1 and verb[-1] in "着在于" else verb


def _verb_weight(verb: str) -> float:
    for verbs, weight in ((lexicon.STIR, STIR), (lexicon.CHANGE, CHANGE), (lexicon.MOTION, MOTION)):
        if verb in verbs:
            return weight
    if not lexicon.CHANGE_CHARACTERS.isdisjoint(verb):
        return CHANGE
    return ACTION if lexicon.MOTION_CHARACTERS.isdisjoint(verb) else MOTION


def _relation(word: str, part: str, kind: str) -> float:
    if word in lexicon.ORDER:
        return 0.0
    if word in lexicon.RELATIONS or word in lexicon.RELATION_VERBS:
        return 1.0
    if kind == "action":
        return float(len(word) > 1 and word[-1] in lexicon.RELATION_ENDINGS)
    if part in ("f", "s"):
        return 1.0 if word[-1] in lexicon.NEAR else PLACE if word[-1] in lexicon.PLACES else 0.0
    return 0.0


def _change(word: str, kind: str) -> float:
    if kind == "action":
        return _verb_weight(_stem(word))
    if word in lexicon.ORDER or (kind in ("noun", "modifier") and word in lexicon.EVENTS):
        return ORDER
    if word in lexicon.UNREST:
        return STIR
    return PACE if word in lexicon.PACE else 0.0


_BREAKS = (
    lexicon.JOINTS | lexicon.COMPLEMENTS | lexicon.ORDER | lexicon.PACE | lexicon.RELATIONS - lexicon.RELATION_VERBS
)
_VERBS = (lexicon.MOTION | lexicon.CHANGE | lexicon.STIR | lexicon.STATES | lexicon.RELATION_VERBS) - lexicon.EVENTS

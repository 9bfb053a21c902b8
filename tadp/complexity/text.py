"""Complexity of a prompt in English or Chinese: what there is, where it is, and how it changes.

Three parts, each saturating as ``1 - exp(-n / c)`` with the number ``n`` of weighted finds: entities (nouns with their
descriptions, and verbs of action), spatial relations (positions and relative motion), and temporal dynamics (motion,
change, and the words that order them). Parts of speech come from dictionaries inside `lemminflect` and `rjieba`, which
are loaded by the first prompt in their language; nothing is downloaded.
"""

import functools
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from tadp.complexity import chinese, english
from tadp.complexity.finds import Find, Finds

_LETTER = re.compile(r"[^\W\d_]")

_ENTITY_SCALE, _SPATIAL_SCALE, _TEMPORAL_SCALE = 6.0, 3.0, 3.0
_ENTITY_WEIGHT, _SPATIAL_WEIGHT, _TEMPORAL_WEIGHT = 0.3, 0.25, 0.45
LONGEST = 3_000  # characters that are read: more than a text encoder of 512 tokens does
CACHED = 512  # scores that a scorer keeps
_MOST_EVIDENCE = 32  # words a part keeps


@dataclass(frozen=True)
class TextScore:
    """Complexity of a prompt; every number is in [0, 1].

    Attributes:
        entity: how many things and actions are described.
        spatial: how many positions and relative motions.
        temporal: how much changes over time.
        total: weighted mean of the three.
        evidence: the words that were counted, by part ("entity", "spatial", "temporal"), the first 32 each; they stand
            in the lower-case prompt as they are here. Things come before actions, otherwise the prompt's order is kept.
    """

    entity: float
    spatial: float
    temporal: float
    total: float
    evidence: dict[str, tuple[str, ...]] = field(hash=False)


def score(prompt: str) -> TextScore:
    """Score a prompt; an empty one scores 0 everywhere. The scores of the last 512 prompts are cached.

    Raises:
        TypeError: if the prompt is not a string.
        MissingExtraError: without the dictionaries of its language.
    """
    return recall(_score, prompt)


def clear_cache(words: bool = True) -> None:
    """Forget all scores and, with `words`, how words were read."""
    for cached in (_score, english.read_word, chinese.read_word) if words else (_score,):
        cached.cache_clear()


def recall(cached: Callable[[str], TextScore], prompt: str) -> TextScore:
    """The score of a prompt from a function that keeps its results.

    Raises:
        TypeError: if the prompt is not a string.
    """
    if not isinstance(prompt, str):
        raise TypeError(f"prompt must be a str, got {type(prompt).__name__}; score a list of prompts one by one")
    kept = cached(prompt)
    return replace(kept, evidence=dict(kept.evidence))  # so that no caller can edit what is kept


def weigh(prompt: str, find_english: Callable[[str], Finds]) -> TextScore:
    """Score a prompt, cached nowhere.

    Args:
        prompt: any string.
        find_english: reads what is not written in Chinese characters, in lower case; not called where there is no
            letter.
    """
    text = prompt[:LONGEST].lower()
    without_han = chinese.RUN.sub(",", text)
    read = [find_english(without_han)] if _LETTER.search(without_han) else []
    if chinese.RUN.search(text):
        read.append(chinese.find(text))
    parts = {
        "entity": [find for finds in read for find in finds.things + finds.actions],
        "spatial": [find for finds in read for find in finds.relations],
        "temporal": [find for finds in read for find in finds.changes],
    }
    entity = _saturate(parts["entity"], _ENTITY_SCALE)
    spatial = _saturate(parts["spatial"], _SPATIAL_SCALE)
    temporal = _saturate(parts["temporal"], _TEMPORAL_SCALE)
    total = _ENTITY_WEIGHT * entity + _SPATIAL_WEIGHT * spatial + _TEMPORAL_WEIGHT * temporal
    evidence = {part: tuple(find.words for find in found[:_MOST_EVIDENCE]) for part, found in parts.items()}
    return TextScore(entity, spatial, temporal, min(total, 1.0), evidence)


@functools.lru_cache(maxsize=CACHED)
def _score(prompt: str) -> TextScore:
    return weigh(prompt, english.find)


def _saturate(finds: Iterable[Find], scale: float) -> float:
    return 1.0 - math.exp(-math.fsum(find.weight for find in finds) / scale)

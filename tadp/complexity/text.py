"""Complexity of a prompt from closed word lists: what there is, where it is, and how it changes.

Three parts, each saturating as ``1 - exp(-n / c)`` with the number ``n`` of weighted finds: entities (noun phrases,
their descriptions, and actions), spatial relations, and temporal dynamics (motion, change, and the words that order
them).
No network and no part-of-speech tagger: noun phrases are what remains between function words, verbs and punctuation.
The lists are English; a prompt in another language is scored by its number of words alone.
"""

import functools
import math
import re
from dataclasses import dataclass, field, replace

from tadp.complexity import lexicon

_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[.,;:!?()\n]")
_PHRASES = re.compile("|".join(rf"\b{phrase}\b" for phrase in lexicon.SPATIAL_PHRASES + lexicon.TEMPORAL_PHRASES))

_DESCRIPTION = 0.25  # a describing word, in entities
_PLACE = 0.5  # "on" or "in", in spatial relations
_ENTITY_SCALE, _SPATIAL_SCALE, _TEMPORAL_SCALE = 5.0, 3.0, 3.0
_ENTITY_WEIGHT, _SPATIAL_WEIGHT, _TEMPORAL_WEIGHT = 0.4, 0.25, 0.35
_LONGEST = 5_000  # characters that are read: twice what a text encoder of 512 tokens does
_MOST_EVIDENCE = 32  # words a part keeps


@dataclass(frozen=True)
class TextScore:
    """Complexity of a prompt; every number is in [0, 1].

    Attributes:
        entity: how many things and actions are described.
        spatial: how densely positions and relative motion are.
        temporal: how much changes over time.
        total: weighted mean of the three.
        evidence: the words that were counted, by part ("entity", "spatial", "temporal"), in order, the first 32 each.
    """

    entity: float
    spatial: float
    temporal: float
    total: float
    evidence: dict[str, tuple[str, ...]] = field(hash=False)


def score(prompt: str) -> TextScore:
    """Score a prompt; an empty one scores 0 everywhere. Scores are cached by prompt.

    Raises:
        TypeError: if the prompt is not a string.
    """
    if not isinstance(prompt, str):
        raise TypeError(f"prompt must be a str, got {type(prompt).__name__}; score a list of prompts one by one")
    cached = _score(prompt)
    return replace(cached, evidence=dict(cached.evidence))  # so that no caller can edit the cached one


@functools.lru_cache(maxsize=512)
def _score(prompt: str) -> TextScore:
    text = prompt[:_LONGEST].lower()
    phrases = _PHRASES.findall(text)
    tokens = _TOKEN.findall(_PHRASES.sub(" , ", text))
    chunks, actions = _entities(tokens)
    places = [token for token in tokens if token in lexicon.PLACE_WORDS]
    relations = [token for token in tokens if token in lexicon.SPATIAL_WORDS]
    relations += [phrase for phrase in phrases if phrase in lexicon.SPATIAL_PHRASES]
    changes = [token for token in tokens if token in _TEMPORAL]
    changes += [phrase for phrase in phrases if phrase in lexicon.TEMPORAL_PHRASES]

    described = sum(len(chunk) - 1 for chunk in chunks)
    entity = _saturate(len(chunks) + len(actions) + _DESCRIPTION * described, _ENTITY_SCALE)
    spatial = _saturate(len(relations) + _PLACE * len(places), _SPATIAL_SCALE)
    temporal = _saturate(len(changes), _TEMPORAL_SCALE)
    total = _ENTITY_WEIGHT * entity + _SPATIAL_WEIGHT * spatial + _TEMPORAL_WEIGHT * temporal
    evidence = {
        "entity": [" ".join(chunk) for chunk in chunks] + actions,
        "spatial": relations + places,
        "temporal": changes,
    }
    kept = {part: tuple(words[:_MOST_EVIDENCE]) for part, words in evidence.items()}
    return TextScore(entity, spatial, temporal, min(total, 1.0), kept)


_TEMPORAL = lexicon.MOTION_VERBS | lexicon.EVENT_NOUNS | lexicon.TEMPORAL_WORDS
_ACTIONS = lexicon.MOTION_VERBS | lexicon.OTHER_VERBS
_JOINTS = (
    lexicon.FUNCTION_WORDS
    | lexicon.SPATIAL_WORDS
    | lexicon.PLACE_WORDS
    | lexicon.TEMPORAL_WORDS
    | lexicon.STATIC_VERBS
    | _ACTIONS
)


def _entities(tokens: list[str]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Different noun phrases (the longest runs of words that are no joints) and all actions."""
    chunks: dict[tuple[str, ...], None] = {}
    actions: list[str] = []
    run: list[str] = []
    for token in (*tokens, "."):
        verb = token in _ACTIONS or (token.endswith("ing") and len(token) > 4 and token not in lexicon.ING_NOUNS)
        if not (verb or token in _JOINTS or token.endswith("ly") or not token[0].isalnum()):
            run.append(token)
            continue
        if run:
            chunks[tuple(run)] = None
            run = []
        if verb and token not in lexicon.STATIC_VERBS:
            actions.append(token)
    return list(chunks), actions


def _saturate(amount: float, scale: float) -> float:
    return 1.0 - math.exp(-amount / scale)

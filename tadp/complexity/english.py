"""Things, actions, relations and changes of an English prompt.

`lemminflect` gives the parts of speech that a form can have and the verb it may belong to; the words to its left and
right decide between them. Which verbs move or change something, and which words relate, stands in `lexicon.english`.
Words that no dictionary knows, those of other languages included, are taken for nouns.
"""

import functools
import re
from typing import NamedTuple

from tadp.complexity.finds import ACTION, CHANGE, MOTION, ORDER, PACE, PLACE, STIR, Find, Finds, described, in_order
from tadp.complexity.lexicon import english as lexicon
from tadp.extras import need

TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[.,;:!?()|\n]")
"""A word, or a mark that ends a phrase."""

_NAMING = frozenset(("noun", "plural", "either", "modifier"))  # "either" may be noun or adjective
_MASK = "|"  # stands for a phrase that was taken out


class _Word(NamedTuple):
    """A form in the dictionary: its parts of speech, the lemma it has as a verb, whether it is a plural."""

    parts: frozenset[str]
    verb: str
    plural: bool


def find(text: str) -> Finds:
    """Read a prompt, in lower case; Chinese characters should have been taken out."""
    relations: list[Find] = []
    changes: list[Find] = []
    masked = _PHRASES.sub(lambda match: _take_phrase(match, relations, changes), text)
    tokens = [(match.group(), match.start()) for match in TOKEN.finditer(masked)]
    things: dict[str, Find] = {}
    actions: list[Find] = []
    run: list[str] = []  # kinds of the words of a thing's name, which begins at `begin` and ends at `end`
    begin = end = 0
    before = "break"
    for (form, start), (after, _) in zip(tokens, [*tokens[1:], (".", 0)], strict=True):
        kind = before = _CLOSED.get(form) or _kind(form, before, after)
        if kind in _NAMING:
            begin, end = begin if run else start, start + len(form)
            run.append(kind)
            if form in _HAPPENINGS:
                changes.append(Find(form, _HAPPENINGS[form], start))
            continue
        if run:
            if kind != "style":  # "warm muted tones" is no thing, nor a description of one
                _name(text[begin:end], begin, run, things)
            run = []
        if kind == "action":
            actions.append(Find(form, 1.0, start))
            changes.append(Find(form, _effect(form), start))
        if kind in ("action", "state"):
            if read_word(form).verb in lexicon.RELATION_VERBS:
                relations.append(Find(form, 1.0, start))
        elif kind == "relation":
            relations.append(Find(form, PLACE if form in lexicon.PLACES else 1.0, start))
        elif form in _ADVERBS:
            changes.append(Find(form, _ADVERBS[form], start))
    if run:
        _name(text[begin:end], begin, run, things)
    return Finds(tuple(things.values()), tuple(actions), in_order(relations), in_order(changes))


def _take_phrase(match: re.Match[str], relations: list[Find], changes: list[Find]) -> str:
    """Note what a fixed phrase counts; what takes its place keeps the length and what stood around it apart."""
    phrase = " ".join(match.group().split())
    find = functools.partial(Find, match.group(), start=match.start())
    if phrase in lexicon.RELATION_PHRASES:
        relations.append(find(weight=1.0))
    elif phrase in lexicon.ORDER_PHRASES:
        changes.append(find(weight=ORDER))
    elif phrase in lexicon.PACE_PHRASES:
        changes.append(find(weight=PACE))
    return _MASK + " " * (len(match.group()) - 1)


def _name(words: str, start: int, kinds: list[str], things: dict[str, Find]) -> None:
    """Count nouns and adjectives in a row as one thing, if there is a noun among them and it was not named before."""
    if words not in things and any(kind != "modifier" for kind in kinds):
        things[words] = Find(words, described(len(kinds) - 1), start)


def _effect(form: str) -> float:
    verb = read_word(form).verb
    kinds = ((lexicon.CHANGE, CHANGE), (lexicon.MOTION, MOTION), (lexicon.STIR, STIR))
    return next((weight for verbs, weight in kinds if verb in verbs), ACTION)


@functools.lru_cache(maxsize=16_384)
def read_word(form: str) -> _Word:
    """What the dictionary knows of a form, wherever it stands."""
    # Half a second and 34 MB, so only once a prompt asks for it.
    lemminflect = need("lemminflect", "text", "scores of English prompts need lemminflect")
    known = lemminflect.getAllLemmas(form.replace("’", "'").removesuffix("'s"))
    if not known and "-" in form:  # half-timbered, wind-blown: what the last word is
        last = read_word(form.rpartition("-")[2])
        return _Word(frozenset({"ADJ"}) if last.verb or last.parts == {"ADJ"} else last.parts, "", last.plural)
    if not known:
        verb = next((verb for verb in _stems(form) if verb in _LISTED), "")
        return _Word(frozenset({"VERB"} if verb else {"NOUN"}), verb, False)
    nouns, verbs = known.get("NOUN", ()), known.get("VERB", ())
    verb = next((verb for verb in verbs if verb in _LISTED), verbs[0] if verbs else "")
    return _Word(frozenset(known), verb, bool(nouns) and form not in nouns)


def _stems(form: str) -> tuple[str, ...]:
    """Verbs that a form would belong to by regular inflection."""
    endings = (("es", ""), ("s", ""), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"))
    return (form, *(form.removesuffix(ending) + more for ending, more in endings if form.endswith(ending)))


def _kind(form: str, before: str, after: str) -> str:
    """What a word is where it stands: one of `_NAMING`, "action", "state", or as in `_CLOSED`."""
    if len(form) == 1:
        return "opener" if form.isdigit() else "break"
    if not form[0].isalpha():
        return "style" if form[-1].isalpha() else "opener" if form.isdigit() else "break"  # 8k and 35mm; 12
    if (form, after) in lexicon.STILL_PAIRS:
        return "modifier"
    word = read_word(form)
    acts = _acts(form, word, before, after) if word.verb else None
    if acts:
        return acts
    if "ADV" in word.parts and ("NOUN" not in word.parts or form.endswith("ly")):
        return "adverb" if "ADJ" not in word.parts else "modifier"
    if "NOUN" not in word.parts:
        return "modifier"  # an adjective, or a participle that describes
    return "either" if "ADJ" in word.parts else "plural" if word.plural else "noun"


def _acts(form: str, word: _Word, before: str, after: str) -> str | None:
    """Whether a form that may be a verb is an "action" or a "state" where it stands; None where it is no verb."""
    kind = "state" if word.verb in _STATES else "action"
    listed = word.verb in _LISTED
    governs = _CLOSED.get(after) in ("opener", "subject") or after.endswith("ly")  # an object or a manner follows
    describes = before in ("opener", "modifier")  # what follows those is a noun, or describes one
    only_verb = not word.parts & {"NOUN", "ADJ"}
    if form == word.verb:
        if before in ("subject", "auxiliary"):
            verb = only_verb or listed or governs
        elif before == "plural":
            verb = governs or listed
        elif before in ("adverb", "action", "conjunction"):
            verb = governs or (listed and not _names(after))
        elif before == "break":  # an order to the camera
            verb = form in lexicon.CAMERA and after in _CLOSED
        else:
            verb = only_verb and before == "noun"
    elif form.endswith("ing"):
        if "NOUN" not in word.parts or ((listed or kind == "state") and not describes):
            verb = listed or before in ("subject", "auxiliary") or not _names(after)
        elif listed:
            verb = _names(after)  # "a spinning wheel" turns, "a crossing" is a place
        else:
            verb = governs and not describes
    elif form.endswith("s"):
        if only_verb:
            verb = True
        elif describes or before in ("joint", "relation"):
            verb = False
        elif form in lexicon.NOUNS_FIRST:
            verb = governs and before == "noun"
        else:
            verb = governs or (listed and not (before == "break" and word.verb in lexicon.ACTIONS))
    else:  # "the vase broke", "a vase is broken", but "a broken vase" and "fallen leaves" are as they are
        verb = not describes and (before in ("noun", "plural", "subject", "auxiliary") or not _names(after))
        kind = "action" if word.verb in _LISTED - lexicon.STATES else "state"
    return kind if verb else None


def _names(form: str) -> bool:
    """Whether a word can stand in a noun phrase."""
    return form not in _CLOSED and form[0].isalpha() and bool(read_word(form).parts & {"NOUN", "ADJ"})


_HAPPENINGS = dict.fromkeys(lexicon.UNREST, STIR) | dict.fromkeys(lexicon.EVENTS, ORDER)
_ADVERBS = dict.fromkeys(lexicon.PACE, PACE) | dict.fromkeys(lexicon.ORDER, ORDER)
_STATES = lexicon.STATES - lexicon.ACTIONS  # a painter paints, a painted door does not
_LISTED = lexicon.CHANGE | lexicon.MOTION | lexicon.STIR | lexicon.ACTIONS
_CLOSED = {
    form: kind
    for kind, forms in (
        ("style", lexicon.STYLE),
        ("joint", lexicon.JOINTS),
        ("conjunction", lexicon.CONJUNCTIONS),
        ("opener", lexicon.OPENERS),
        ("subject", lexicon.SUBJECTS),
        ("auxiliary", lexicon.AUXILIARIES),
        ("relation", lexicon.RELATIONS | lexicon.PLACES),
        ("adverb", lexicon.ORDER | lexicon.PACE),
        ("break", frozenset(".,;:!?()|\n")),
    )
    for form in forms
}
_PHRASES = re.compile(
    "|".join(
        rf"\b{re.escape(phrase)}\b".replace(r"\ ", r"[ \t]+")
        for phrase in sorted(
            lexicon.RELATION_PHRASES + lexicon.ORDER_PHRASES + lexicon.PACE_PHRASES + lexicon.NO_PLACE_PHRASES,
            key=len,
            reverse=True,
        )
    )
)

"""How well do a small BERT's vectors tell what the English lexicons find in a word, and behind which layer?

With --write, fits the linear layer that tadp.complexity.bert keeps. Words come from the tuning half of the English
prompts of bench/prompts.json and from captions of the embedded model; prompts that were held out are never read. The
figures are cross-validated: prompts are judged by layers that were fitted without them.
"""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

from bench.quality.text_groups import GROUPS, PROMPTS, Prompt, auc
from bench.record import parser, record
from tadp.complexity import bert, english, text
from tadp.complexity.finds import ACTION, CHANGE, MOTION, ORDER, PACE, PLACE, STIR, Finds
from tadp.complexity.tags import TAGS, Word
from tadp.demo.scenes import sample_scene

CAPTIONS = 30  # scenes of the generator, beside the prompts of its calibration
FOLDS = 6
PENALTY = 1e-2  # of the squared weights of the layer, for inputs of unit variance
_ALL_LAYERS = tuple(range(7))
_VERBS = {ACTION: "action", STIR: "stir", MOTION: "motion", CHANGE: "change"}
_PHRASES = {ORDER: "order", PACE: "pace", STIR: "unrest"}


class Read(NamedTuple):
    """A text in lower case, its words as the lexicons tag them, their classes, and vectors ``(layers, words, dim)``."""

    text: str
    words: list[Word]
    classes: torch.Tensor
    vectors: torch.Tensor


class Head(NamedTuple):
    """The linear layer: ``(classes, dim)`` and ``(classes,)``."""

    weight: torch.Tensor
    bias: torch.Tensor


def main() -> None:
    """A table by layer and, if asked for, the file."""
    options = parser(__doc__)
    options.add_argument("--write", action="store_true", help=f"fit the layer to all of it and write {bert.HEAD.name}")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    lines = [Prompt(**line) for line in json.loads(PROMPTS.read_text(encoding="utf-8"))["prompts"]]
    prompts = [line for line in lines if (line.language, line.half) == ("en", "tuning")]
    read = [_read(prompt.text.lower()) for prompt in prompts]
    captions = [_read(caption.lower()) for caption in _captions()]
    rows = [{"layer": layer} | _validated(prompts, read, captions, layer) for layer in _ALL_LAYERS]
    words = sum(len(one.words) for one in read), sum(len(one.words) for one in captions)
    record("bert_head", rows, chosen.json, words_of_prompts=words[0], words_of_captions=words[1])
    if chosen.write:
        head = fit([*read, *captions], bert.LAYERS)
        save_file({"weight": head.weight, "bias": head.bias}, bert.HEAD, {"classes": json.dumps(list(TAGS))})


def fit(read: Sequence[Read], layer: int) -> Head:
    """Softmax regression with a penalty; the same for the same words, whatever the seed."""
    vectors = torch.cat([one.vectors[layer] for one in read]).double()
    classes = torch.cat([one.classes for one in read])
    mean, spread = vectors.mean(0), vectors.std(0)
    inputs = (vectors - mean) / spread
    weight = torch.zeros(len(TAGS), vectors.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(TAGS), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(inputs @ weight.T + bias, classes) + PENALTY * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    scaled = weight.detach() / spread
    return Head(scaled.float(), (bias.detach() - scaled @ mean).float())


def tagged(prompt: str) -> list[Word]:
    """The words of a prompt in lower case, marks left out, with the classes that the lexicons give them."""
    kinds = dict.fromkeys(bert.words_of(prompt), "other")
    found = english.find(prompt)
    _tag_names(prompt, found, kinds)
    related = {find.start for find in found.relations}
    acts = {find.start for find in found.actions}
    for find in found.relations:
        for span in _inside(find.start, find.words, kinds):
            kinds[span] = "place" if find.weight == PLACE else "relation"
    for find in found.changes:
        for span in _inside(find.start, find.words, kinds):
            if find.start in acts:
                kinds[span] = "encounter" if find.start in related else _VERBS[find.weight]
            elif kinds[span] in ("thing", "description"):
                kinds[span] = "event" if find.weight == ORDER else "unrest"
            else:
                kinds[span] = _PHRASES[find.weight]
    return [Word(*span, kind) for span, kind in kinds.items()]


def _tag_names(prompt: str, found: Finds, kinds: dict[tuple[int, int], str]) -> None:
    """Tag names of things; one that stands twice was found once, and is tagged wherever it stands."""
    named = [(find.start, find.words) for find in found.things]
    again = [
        (match.start(), words)
        for _, words in named
        for match in re.finditer(rf"(?<!\w){re.escape(words)}(?!\w)", prompt)
    ]
    for start, words in named + again:
        spans = _inside(start, words, kinds)
        if all(kinds[span] == "other" for span in spans):
            kinds |= dict.fromkeys(spans, "description") | {spans[-1]: "thing"}


def _inside(start: int, words: str, kinds: dict[tuple[int, int], str]) -> list[tuple[int, int]]:
    return [span for span in kinds if start <= span[0] < start + len(words)]


def _read(prompt: str) -> Read:
    words = tagged(prompt)
    names = list(TAGS)
    classes = torch.tensor([names.index(word.kind) for word in words])
    return Read(prompt, words, classes, bert.encode(prompt, [word[:2] for word in words], _ALL_LAYERS))


def _captions() -> Iterator[str]:
    prompts = files("tadp.demo").joinpath("calibration_prompts.txt").read_text(encoding="utf-8").splitlines()
    return itertools.chain(filter(None, prompts), (sample_scene(seed).caption for seed in range(CAPTIONS)))


def _validated(
    prompts: Sequence[Prompt], read: Sequence[Read], captions: Sequence[Read], layer: int
) -> dict[str, float]:
    """Share of words whose class is the lexicons', and AUC of the total, of prompts that a head has not seen."""
    right, totals = 0, {}
    for fold in range(FOLDS):
        head = fit([*(one for i, one in enumerate(read) if i % FOLDS != fold), *captions], layer)
        for prompt, one in list(zip(prompts, read, strict=True))[fold::FOLDS]:
            best = (one.vectors[layer] @ head.weight.T + head.bias).argmax(1)
            right += int((best == one.classes).sum())
            classes = dict(zip((word[:2] for word in one.words), best.tolist(), strict=True))
            totals[prompt.text] = text.weigh(
                prompt.text, lambda words, classes=classes: bert.collect(words, classes)
            ).total
    groups = [[totals[prompt.text] for prompt in prompts if prompt.group == group] for group in GROUPS]
    return {"words as the lexicons": right / sum(len(one.words) for one in read), "AUC total": auc(groups)}


if __name__ == "__main__":
    main()

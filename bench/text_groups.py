"""How well does the text score tell simple, medium and complex prompts apart, and what does a prompt cost?"""

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.record import parser, record
from tadp.complexity import text

GROUPS = ("simple", "medium", "complex")
PARTS = ("entity", "spatial", "temporal", "total")
PROMPTS = Path(__file__).with_name("prompts.json")
_FIRST_CALL = """
import time, numpy
from tadp.complexity import text
start = time.perf_counter()
text.score({prompt!r})
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
    """One table by language and half, and what a prompt costs."""
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=20, help="timings of each prompt, of which the median counts")
    options.add_argument("--short", action="store_true")
    chosen = options.parse_args()
    prompts = [Prompt(**line) for line in json.loads(PROMPTS.read_text(encoding="utf-8"))["prompts"]]
    rows = []
    for language, half in itertools.product(("en", "zh"), ("tuning", "held out")):
        those = [prompt for prompt in prompts if (prompt.language, prompt.half) == (language, half)]
        rows.append({"language": language, "half": half, "prompts": len(those)} | _separation(those))
    facts = {
        f"milliseconds, {language}": _milliseconds(
            [prompt.text for prompt in prompts if prompt.language == language], 3 if chosen.short else chosen.repeats
        )
        for language in ("en", "zh")
    }
    first = {language: _first_call(prompt) for language, prompt in (("en", "a dog runs"), ("zh", "一只狗在奔跑"))}
    record("text_groups", rows, chosen.json, **facts, milliseconds_of_the_first_call=first)


def auc(groups: Sequence[Sequence[float]]) -> float:
    """Share of all pairs from two groups that are in the right order; equal values count half."""
    pairs = [
        (low, high)
        for lower, higher in itertools.combinations(groups, 2)
        for low, high in itertools.product(lower, higher)
    ]
    return sum((high > low) + 0.5 * (high == low) for low, high in pairs) / len(pairs)


def _separation(prompts: Sequence[Prompt]) -> dict[str, float]:
    """AUC of each part, of the total and of the length; and the largest temporal part where nothing moves."""

    def separates(measure: Callable[[str], float]) -> float:
        return auc([[measure(prompt.text) for prompt in prompts if prompt.group == group] for group in GROUPS])

    found = {f"AUC {part}": separates(lambda prompt, part=part: getattr(text.score(prompt), part)) for part in PARTS}
    found["AUC length"] = separates(len)
    still = [text.score(prompt.text).temporal for prompt in prompts if prompt.static]
    return found | {"static: highest temporal": max(still), "static: mean temporal": statistics.fmean(still)}


def _milliseconds(prompts: Sequence[str], repeats: int) -> dict[str, float]:
    """Processor time of a prompt with no cache, with the cache of words alone, and of one as long as is read."""
    longest = " ".join(prompts)[: text.LONGEST]
    for prompt in (longest, *prompts):
        text.score(prompt)
    cold = [_median(prompt, repeats, words=True) for prompt in prompts]
    warm = [_median(prompt, repeats, words=False) for prompt in prompts]
    return {
        "median": statistics.median(cold),
        "slowest": max(cold),
        "median with known words": statistics.median(warm),
        f"all prompts joined ({len(longest)} characters)": _median(longest, repeats, words=True),
    }


def _median(prompt: str, repeats: int, words: bool) -> float:
    took = []
    for _ in range(repeats):
        text.clear_cache(words)
        start = time.thread_time()
        text.score(prompt)
        took.append(1e3 * (time.thread_time() - start))
    return statistics.median(took)


def _first_call(prompt: str) -> float:
    """Milliseconds of the first prompt of a process, the libraries of its language being loaded; best of three."""
    command = [sys.executable, "-c", _FIRST_CALL.format(prompt=prompt)]
    return min(1e3 * float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(3))


if __name__ == "__main__":
    main()

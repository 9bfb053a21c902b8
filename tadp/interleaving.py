"""How candidates are timed against each other: in one process, in turn, in an order that is shuffled every round."""

import random
import statistics
import time
from collections.abc import Callable, Mapping

SLOW = 0.15
"""Seconds of one call from which on a candidate is timed once only: oneDNN's reference path takes seconds a product."""


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def medians(
    candidates: Mapping[str, Callable[[], object]],
    seconds: float,
    *,
    slow: float | None = SLOW,
    timer: Callable[[Callable[[], object]], float] = timed,
    least: int = 1,
    seed: int = 0,
) -> dict[str, float]:
    """Median seconds of a call of each candidate.

    Args:
        candidates: by name. Each is called once before anything is counted.
        seconds: after which no further round begins.
        slow: seconds of a call from which on a candidate takes no part in rounds, and has been timed once; None where
            all take part.
        timer: gives the seconds of a call.
        least: rounds that are run in any case.
        seed: of the order in which candidates take turns.
    """
    for call in candidates.values():
        call()  # what compiles does so now: that must neither count nor pass for slowness
    times = {name: [timer(call)] for name, call in candidates.items()}
    order = [name for name in candidates if slow is None or times[name][0] < slow]
    shuffle, rounds = random.Random(seed).shuffle, 1
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline or rounds < least:
        shuffle(order)  # whoever always came after the same rival would inherit its caches and its heap
        for name in order:
            times[name].append(timer(candidates[name]))
        rounds += 1
    return {name: statistics.median(taken) for name, taken in times.items()}

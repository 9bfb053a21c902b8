"""How candidates are timed against each other: in one process, in turn, in an order that is shuffled every round."""

import random
import statistics
import time
from collections.abc import Callable, Mapping

from bench.record import timed

SLOW = 0.15
"""Seconds of one call from which on a candidate is timed once only: oneDNN's reference path takes seconds a product."""


def medians(
    candidates: Mapping[str, Callable[[], object]],
    seconds: float,
    slow: float | None = SLOW,
    timer: Callable[[Callable[[], object]], float] = timed,
) -> dict[str, float]:
    """Median seconds of a call of each candidate.

    Args:
        candidates: by name. Each is called once before anything is counted.
        seconds: after which no further round begins.
        slow: seconds of a call from which on a candidate takes no part in rounds, and has been timed once; None where
            all take part.
        timer: gives the seconds of a call.
    """
    for call in candidates.values():
        call()  # what compiles does so now: that must neither count nor pass for slowness
    times = {name: [timer(call)] for name, call in candidates.items()}
    order, shuffle = [name for name in candidates if slow is None or times[name][0] < slow], random.Random(0).shuffle
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        shuffle(order)  # whoever always came after the same rival would inherit its caches and its heap
        for name in order:
            times[name].append(timer(candidates[name]))
    return {name: statistics.median(taken) for name, taken in times.items()}

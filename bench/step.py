"""How long is a step of a model of Wan2.1-1.3B's shape at each level, against torch.compile in bfloat16?

Two of the 30 blocks, at their real width: 1,536 channels, 12 heads, 8,960 in the feed-forward, 1,280 video tokens.
"""

import statistics

import torch

import tadp
from bench.model import WIDE_TOKENS, wide_inputs, wide_transformer
from bench.record import parser, record, timed

POLICIES = ("static:16", "static:8", "static:6", "static:4")
RIVAL = "torch.compile, bfloat16"


def main() -> None:
    """Interleave forwards of all candidates and compare medians."""
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=15)
    chosen = options.parse_args()
    times = measure(chosen.repeats)
    base = statistics.median(times[RIVAL])
    rows = [
        {"model": name, "forward, s": statistics.median(taken), "times as fast": base / statistics.median(taken)}
        for name, taken in times.items()
    ]
    record("step", rows, chosen.json, tokens=WIDE_TOKENS, blocks=2)


def measure(repeats: int) -> dict[str, list[float]]:
    """Seconds of every forward, by candidate."""
    inputs = wide_inputs()
    plain = torch.compile(wide_transformer(), dynamic=False)
    model = tadp.compile(wide_transformer(), policy=POLICIES[0])
    times: dict[str, list[float]] = {name: [] for name in (RIVAL, *POLICIES)}
    with torch.no_grad():
        plain(**inputs)
        for policy in POLICIES:
            model.tadp.use(policy)
            model(**inputs)
        for _ in range(repeats):
            times[RIVAL].append(timed(lambda: plain(**inputs)))
            for policy in POLICIES:
                model.tadp.use(policy)
                model(**inputs)  # after a switch masters and planes come in: not part of a step
                times[policy].append(timed(lambda: model(**inputs)))
    return times


if __name__ == "__main__":
    main()

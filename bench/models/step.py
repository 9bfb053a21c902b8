"""How long is a step of a model of Wan2.1-1.3B's shape at each level, against torch.compile?

Two of the 30 blocks, at their real width: 1,536 channels, 12 heads of 128, 8,960 in the feed-forward, 512 words. The
rival runs in bfloat16, and in float32 too, which is the faster one on processors without bfloat16 instructions.
"""

import statistics
from collections.abc import Callable, Sequence

import torch

import tadp
from bench.models.model import WIDE_FRAME_TOKENS, wide_inputs, wide_transformer
from bench.record import parser, record
from tadp.interleaving import timed

POLICIES = (
    *("static:16", "static:8", "static:6", "static:4"),
    *("static:16+attention", "static:8+attention", "static:6+attention", "static:4+attention"),
)
RIVAL, WIDE = "torch.compile, bfloat16", "torch.compile, float32"
TOKENS = (1280, 4096)


def main() -> None:
    """Interleave forwards of all candidates and compare medians."""
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=11)
    options.add_argument("--tokens", type=int, nargs="+", default=TOKENS, help=f"multiples of {WIDE_FRAME_TOKENS}")
    options.add_argument("--policies", nargs="+", default=POLICIES)
    chosen = options.parse_args()
    rows = [
        row for tokens in chosen.tokens for row in compare(tokens, measure(tokens, chosen.policies, chosen.repeats))
    ]
    record("step", rows, chosen.json, blocks=2, repeats=chosen.repeats)


def compare(tokens: int, times: dict[str, list[float]]) -> list[dict[str, object]]:
    """A row for each candidate."""
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    return [
        {
            "tokens": tokens,
            "model": name,
            "forward, s": median,
            "x bfloat16": medians[RIVAL] / median,
            "x float32": medians[WIDE] / median,
        }
        for name, median in medians.items()
    ]


def measure(tokens: int, policies: Sequence[str], repeats: int) -> dict[str, list[float]]:
    """Seconds of every forward, by candidate."""
    inputs = wide_inputs(tokens)
    float32_inputs = wide_inputs(tokens, torch.float32)
    rival, wide = (torch.compile(wide_transformer(dtype), dynamic=False) for dtype in (torch.bfloat16, torch.float32))
    model = tadp.compile(wide_transformer(), policy=policies[0])

    def follow(policy: str) -> Callable[[], object]:
        def forward() -> object:
            return model(**inputs)

        model.tadp.use(policy)
        forward()  # after a switch masters and planes come in: not part of a step
        return forward

    times: dict[str, list[float]] = {name: [] for name in (RIVAL, WIDE, *policies)}
    with torch.no_grad():
        rival(**inputs)
        wide(**float32_inputs)
        for policy in policies:
            follow(policy)
        for _ in range(repeats):
            times[RIVAL].append(timed(lambda: rival(**inputs)))
            times[WIDE].append(timed(lambda: wide(**float32_inputs)))
            for policy in policies:
                times[policy].append(timed(follow(policy)))
    return times


if __name__ == "__main__":
    main()

"""What does dispatching cost, against calling the very same compiled pieces one after the other?"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import tadp
from bench.model import demo_inputs, demo_transformer
from bench.record import parser, record
from tadp.runtime.dispatcher import Dispatcher


Call = tuple[Callable[..., object], tuple[object, ...]]


def main() -> None:
    """Interleave whole forwards with bare calls of their pieces."""
    options = parser(__doc__)
    options.add_argument("--repeats", type=int, default=40)
    chosen = options.parse_args()
    rows = [measure(policy, chosen.repeats) for policy in ("static:16", "static:8")]
    record("dispatch", rows, chosen.json)


def measure(policy: str, repeats: int) -> dict[str, object]:
    """Median milliseconds of both, and the median overhead of neighbouring pairs."""
    calls: list[Call] = []
    noting = [False]
    lower = passes.lower

    def lower_and_note(*arguments: Any) -> Compiled:
        compiled = lower(*arguments)

        def call(*values: object) -> object:
            if noting[0]:
                calls.append((compiled, values))
            return compiled(*values)

        return call  # type: ignore[return-value]

    passes.lower = lower_and_note
    try:
        model, inputs = tadp.compile(demo_transformer(), policy=policy), demo_inputs()
        model(**inputs)
    finally:
        passes.lower = lower
    noting[0] = True
    model(**inputs)
    noting[0] = False
    forwards, pieces = [], []
    for _ in range(repeats):
        started = time.perf_counter()
        model(**inputs)
        middle = time.perf_counter()
        with torch.no_grad():
            for function, arguments in calls:
                function(*arguments)
        forwards.append(middle - started)
        pieces.append(time.perf_counter() - middle)
    overheads = [forward / piece - 1 for forward, piece in zip(forwards, pieces, strict=True)]
    return {
        "policy": policy,
        "forward, ms": statistics.median(forwards) * 1e3,
        "same pieces called directly, ms": statistics.median(pieces) * 1e3,
        "overhead, % (median of pairs)": statistics.median(overheads) * 100,
        "pieces": len(calls),
    }


if __name__ == "__main__":
    main()

"""What does dispatching cost, against calling the very same compiled pieces one after the other?"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import WanTransformer3DModel

import tadp
from bench.model import demo_inputs, demo_transformer
from bench.record import parser, record
from tadp import passes
from tadp.passes.lower import Compiled

Call = tuple[Callable[..., object], tuple[object, ...]]


def main() -> None:
    """Interleave forwards with the same ones whose blocks are bare calls of the compiled pieces."""
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
        forwards.append(time.perf_counter() - started)
        with torch.no_grad(), _blocks_replaced_by(model, calls):
            started = time.perf_counter()
            type(model).forward(model, **inputs)
            pieces.append(time.perf_counter() - started)
    overheads = [forward / piece - 1 for forward, piece in zip(forwards, pieces, strict=True)]
    return {
        "policy": policy,
        "forward, ms": statistics.median(forwards) * 1e3,
        "pieces called directly, ms": statistics.median(pieces) * 1e3,
        "overhead, % (median of pairs)": statistics.median(overheads) * 100,
        "pieces": len(calls),
    }


@contextmanager
def _blocks_replaced_by(model: WanTransformer3DModel, calls: list[Call]) -> Iterator[None]:
    """Let the model's own forward call the noted pieces where it would call its blocks."""
    blocks = model.blocks
    model.blocks = torch.nn.ModuleList(_Bare(*call) for call in calls)
    try:
        yield
    finally:
        model.blocks = blocks


class _Bare(torch.nn.Module):
    def __init__(self, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        super().__init__()
        self.function, self.arguments = function, arguments

    def forward(self, *_: object) -> object:
        return self.function(*self.arguments)[0]


if __name__ == "__main__":
    main()

"""How fast is a linear layer on a GPU with every kernel of tadp, against cuBLAS, torchao and what the hardware allows?

Each product is a CUDA graph, timed between two events with an empty L2 cache; all candidates of a shape run in turn.
Attention comes after the layers, in a third of the time; bench.kernels.gpu_attention measures it alone.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from bench.kernels import gpu_attention
from bench.kernels.attention_floors import attention_shapes
from bench.kernels.floors import Peaks, Shape, Work, floors, operations, shapes
from bench.kernels.gpu_candidates import BASE, Build, Candidate, Layer, builds, check, offered_kernels
from bench.kernels.gpu_run import run_shapes
from bench.kernels.gpu_timing import Call, CudaTimer, captured
from bench.record import parser
from tadp.interleaving import medians

NAME = "gpu: microseconds, and how close to the least that the hardware needs"
RESULT = Path(__file__).resolve().parents[1] / "results" / "gpu.json"


class Ready(NamedTuple):
    """A candidate that may be timed.

    Attributes:
        error: relative error, if it has one.
        call: what to time.
        work: what that does.
    """

    error: float | None
    call: Call
    work: Work


Measured = Mapping[str, tuple[Work, float, float | None]]
"""Work, seconds and relative error by candidate."""


def main() -> int:
    """Measure shape after shape until the time is spent; gives the exit code."""
    chosen = options().parse_args()
    if not torch.cuda.is_available():
        print("bench.kernels.gpu needs a CUDA device, and torch sees none here", file=sys.stderr)
        return 2
    seconds = chosen.seconds if chosen.shapes else chosen.seconds * 2 / 3
    run_shapes(NAME, chosen.shapes or shapes(chosen.quick), measure, chosen.json, seconds)
    if not chosen.shapes:
        path = chosen.json.with_name(f"{chosen.json.stem}_attention.json")
        run_shapes(
            gpu_attention.NAME,
            attention_shapes(chosen.quick),
            gpu_attention.measure_attention,
            path,
            chosen.seconds - seconds,
        )
    return 0


def options() -> argparse.ArgumentParser:
    """What the command takes."""
    made = parser(__doc__)
    made.set_defaults(json=RESULT)
    made.add_argument("--quick", "--short", action="store_true", help="one layer of either model, and one attention")
    made.add_argument("--seconds", type=float, default=360.0, help="start no shape after so long (default 360)")
    made.add_argument("--shapes", type=Shape.parse, nargs="+", metavar="TOKENSxINxOUT", help="these layers only")
    return made


def measure(shape: Shape, peaks: Peaks | None, seconds: float) -> list[dict[str, object]]:
    """The rows of one shape; a candidate that fails has a row with the reason."""
    pool = torch.cuda.graph_pool_handle()
    with torch.no_grad():
        layer = Layer.random(shape)
        named = builds(layer, lambda width, activations: offered_kernels(shape, width, activations))
        ready, failed = prepare(named, lambda made: Ready(check(made, layer), captured(made.call, pool), made.work))
        times = medians({name: each.call for name, each in ready.items()}, seconds, timer=CudaTimer())
    torch._dynamo.reset()  # the layers of all shapes share their code, and only so many versions of it are kept
    return form_rows(shape, {name: (each.work, times[name], each.error) for name, each in ready.items()}, failed, peaks)


def prepare(
    named: Iterable[tuple[str, Build]], checked: Callable[[Candidate], Ready]
) -> tuple[dict[str, Ready], dict[str, str]]:
    """Build and check candidates: those that work, and why the others do not."""
    ready: dict[str, Ready] = {}
    failed: dict[str, str] = {}
    for name, build in named:
        try:
            candidate = build()
            ready[candidate.name] = checked(candidate)
        except Exception as error:  # whatever it fails with belongs into the table, not on the screen
            lines = str(error).strip().splitlines() or [""]
            failed[name] = f"{type(error).__name__}: {lines[0][:100]}"
    return ready, failed


def form_rows(
    shape: Shape, measured: Measured, failed: Mapping[str, str], peaks: Peaks | None
) -> list[dict[str, object]]:
    """One row a candidate, all with the same columns; None where there is nothing to say."""
    base = measured[BASE][1] if BASE in measured else None
    rows = []
    for name, (work, seconds, error) in measured.items():
        arithmetic, memory = floors(shape, work, peaks)
        count = operations(shape, work)
        rows.append(
            _row(shape, name)
            | {
                "us": seconds * 1e6,
                "x bfloat16": None if base is None else base / seconds,
                "TFLOP/s": count / seconds * 1e-12 if count else None,
                "% of peak": None if arithmetic is None else 100 * arithmetic / seconds,
                "% of bandwidth": None if memory is None else 100 * memory / seconds,
                "relative error": error,
            }
        )
    return rows + [_row(shape, name) | {"note": reason} for name, reason in failed.items()]


def _row(shape: Shape, name: str) -> dict[str, object]:
    empty = ("us", "x bfloat16", "TFLOP/s", "% of peak", "% of bandwidth", "relative error")
    where = {"tokens": shape.tokens, "in": shape.columns, "out": shape.rows, "candidate": name}
    return where | dict.fromkeys(empty) | {"note": ""}


if __name__ == "__main__":
    sys.exit(main())

"""Are the kernels right on a GPU that tadp has not met, and how fast are they? The first minutes, in one go.

It runs the tests that need a GPU, `tadp doctor`, `tadp bench --tune` and the quick benchmarks, and goes on where one of
them fails. `make gpu-first` calls this; it is no command of tadp, because tests and benchmarks are in a checkout only.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.record import parser, record

NAME = "gpu_first: the first minutes on a GPU"
ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"

Run = Callable[[Sequence[str]], int]
"""Runs a command in the checkout, its output on the terminal, and gives its exit code."""


@dataclass(frozen=True)
class Step:
    """One thing to do.

    Attributes:
        name: as it stands in the table.
        command: arguments of the Python interpreter.
        needs: what has to be there, relative to the checkout; "" for nothing.
    """

    name: str
    command: tuple[str, ...]
    needs: str = ""


STEPS = (
    Step("tests", ("-m", "pytest", "-m", "gpu", "-q", "tests"), needs="tests"),
    Step("doctor", ("-m", "tadp.cli", "doctor", "--json", str(RESULTS / "gpu_doctor.json"))),
    Step("tuning", ("-m", "tadp.cli", "bench", "--tune", "--device", "cuda")),
    Step("benchmarks", ("-m", "bench.kernels.gpu", "--quick"), needs="bench/kernels/gpu.py"),
)


def main() -> int:
    """Run all steps; gives the exit code: 1 where one failed, 2 without a GPU."""
    chosen = parser(__doc__).parse_args()
    missing = missing_gpu()
    if missing:
        print(missing, file=sys.stderr)
        return 2
    return run_steps(STEPS, in_checkout, chosen.json or RESULTS / "gpu_first.json")


def missing_gpu() -> str:
    """What is missing to run anything, in one sentence; "" where a GPU is there."""
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"bench.kernels.gpu_first needs a CUDA build of torch, and {torch.__version__} is none"
    return "bench.kernels.gpu_first needs a CUDA device, and torch sees none: see whether nvidia-smi does"


def run_steps(steps: Sequence[Step], run: Run, path: Path) -> int:
    """Run steps in order, whatever becomes of them, and write what did after each."""
    rows: list[dict[str, object]] = []
    for step in steps:
        print(f"== {step.name}", flush=True)
        rows.append(_row(step, run))
        record(NAME, rows, path, failed=", ".join(_failed(rows)) or "nothing")
    failed = _failed(rows)
    if failed:
        names = ", ".join(failed)
        print(f"{len(failed)} of {len(rows)} steps failed: {names}; their output stands above", file=sys.stderr)
    return 1 if failed else 0


def in_checkout(command: Sequence[str]) -> int:
    """Run this interpreter with arguments, in the checkout."""
    return subprocess.run([sys.executable, *command], cwd=ROOT, check=False).returncode


def _row(step: Step, run: Run) -> dict[str, object]:
    if step.needs and not (ROOT / step.needs).exists():
        return {"step": step.name, "seconds": None, "outcome": f"left out: there is no {step.needs} here"}
    started = time.perf_counter()
    try:
        code = run(step.command)
        outcome = "done" if code == 0 else f"failed with exit code {code}"
    except OSError as error:
        outcome = f"failed: {error}"
    return {"step": step.name, "seconds": time.perf_counter() - started, "outcome": outcome}


def _failed(rows: Sequence[dict[str, object]]) -> list[str]:
    return [str(row["step"]) for row in rows if str(row["outcome"]).startswith("failed")]


if __name__ == "__main__":
    sys.exit(main())

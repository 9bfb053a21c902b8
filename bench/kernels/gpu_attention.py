"""How fast is attention on a GPU with every kernel of tadp, quantization included, and how close to exact?

Against PyTorch's flash and cuDNN attention in bfloat16, SageAttention where it is installed, and what the hardware
allows. Timed as in bench.kernels.gpu.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.kernels.attention_floors import (
    AttentionWork,
    Heads,
    attention_floors,
    attention_operations,
    attention_shapes,
)
from bench.kernels.floors import Peaks
from bench.kernels.gpu_run import run_shapes
from bench.kernels.gpu_timing import Call, CudaTimer, captured
from bench.record import parser
from tadp.interleaving import medians
from tadp.kernels import reference
from tadp.kernels.triton.attention_tile import OPERANDS, attention_kernels_for

NAME = "attention on a GPU: microseconds, how close to the least that the hardware needs, and to exact results"
RESULT = Path(__file__).resolve().parents[1] / "results" / "gpu_attention.json"

BASE = "torch SDPA flash"

_CHECKED_QUERIES = 64
_CHECKED_HEADS = 2
_CHANNEL_MEAN = 2.0
"""Keys have a mean that differs between channels, as those of models do; it is what makes 8 bits hard for them."""

_TYPES = {"float16": "bfloat16", "int8": "int8", "float8": "float8"}
"""Types in the names of operands, as floors.Peaks calls them: inputs are bfloat16 here."""


class Inputs(NamedTuple):
    """Views ``(1, heads, tokens, dim)`` of ``(1, tokens, heads, dim)``, as a model passes them, bfloat16."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor

    @classmethod
    def random(cls, shape: Heads) -> "Inputs":
        """Normal values on the current GPU."""
        generator = torch.Generator("cuda").manual_seed(0)
        size = (1, shape.tokens, shape.heads, shape.dim)
        q, k, v = (torch.randn(size, generator=generator, device="cuda") for _ in range(3))
        k += _CHANNEL_MEAN * torch.randn(shape.heads, shape.dim, generator=generator, device="cuda")
        return cls(*(tensor.bfloat16().transpose(1, 2) for tensor in (q, k, v)))


@dataclass(frozen=True)
class AttentionCandidate:
    """One way to compute attention.

    Attributes:
        name: as it stands in the table.
        work: what it multiplies, for its floors.
        call: computes ``(1, heads, tokens, dim)``.
    """

    name: str
    work: AttentionWork
    call: Callable[[], torch.Tensor]


class Closeness(NamedTuple):
    """How close a result is to exact attention.

    Attributes:
        error: norm of the difference, relative to the norm.
        cosine: of the angle between both.
    """

    error: float
    cosine: float


class ReadyAttention(NamedTuple):
    """A candidate that may be timed: how close it came, what to time, and what that multiplies."""

    closeness: Closeness
    call: Call
    work: AttentionWork


AttentionBuild = Callable[[], AttentionCandidate]
MeasuredAttention = Mapping[str, tuple[AttentionWork, float, Closeness]]
"""Work, seconds and closeness by candidate."""


def main() -> int:
    """Measure shape after shape until the time is spent; gives the exit code."""
    chosen = options().parse_args()
    if not torch.cuda.is_available():
        print("bench.kernels.gpu_attention needs a CUDA device, and torch sees none here", file=sys.stderr)
        return 2
    run_shapes(NAME, chosen.shapes or attention_shapes(chosen.quick), measure_attention, chosen.json, chosen.seconds)
    return 0


def options() -> argparse.ArgumentParser:
    """What the command takes."""
    made = parser(__doc__)
    made.set_defaults(json=RESULT)
    made.add_argument("--quick", "--short", action="store_true", help="the shortest clip of one model")
    made.add_argument("--seconds", type=float, default=120.0, help="start no shape after so long (default 120)")
    made.add_argument("--shapes", type=Heads.parse, nargs="+", metavar="TOKENSxHEADSxDIM", help="these shapes only")
    return made


def attention_builds(inputs: Inputs, kernels: tuple[str, ...]) -> Iterator[tuple[str, AttentionBuild]]:
    """Name and recipe of each candidate.

    Args:
        inputs: what to compute.
        kernels: what ``kernel_name`` of the operator is to be.
    """
    for name, backend in ((BASE, SDPBackend.FLASH_ATTENTION), ("torch SDPA cuDNN", SDPBackend.CUDNN_ATTENTION)):
        yield name, lambda name=name, backend=backend: _sdpa(inputs, name, backend)  # type: ignore[misc]
    yield "SageAttention", lambda: _sage(inputs)
    for kernel in kernels:
        yield f"tadp {kernel}", lambda kernel=kernel: _tadp(inputs, kernel)  # type: ignore[misc]


def offered_attention(shape: Heads) -> tuple[str, ...]:
    """The kernels that are worth timing on the current GPU."""
    capability = torch.cuda.get_device_capability()
    return attention_kernels_for(shape.tokens, shape.dim, capability)


def measure_attention(shape: Heads, peaks: Peaks | None, seconds: float) -> list[dict[str, object]]:
    """The rows of one shape; a candidate that fails has a row with the reason."""
    pool = torch.cuda.graph_pool_handle()
    ready: dict[str, ReadyAttention] = {}
    failed: dict[str, str] = {}
    with torch.no_grad():
        inputs = Inputs.random(shape)
        some = tuple(tensor[:, :_CHECKED_HEADS] for tensor in inputs)
        queries = torch.linspace(0, shape.tokens - 1, _CHECKED_QUERIES, device="cuda").long().unique()
        exact = reference.attention(some[0][:, :, queries], *some[1:], dtype=torch.float64)
        for name, build in attention_builds(inputs, offered_attention(shape)):
            try:
                made = build()
                close = closeness(made.call()[:, :_CHECKED_HEADS, queries], exact)
                ready[made.name] = ReadyAttention(close, captured(made.call, pool), made.work)
            except Exception as error:  # whatever it fails with belongs into the table, not on the screen
                lines = str(error).strip().splitlines() or [""]
                failed[name] = f"{type(error).__name__}: {lines[0][:100]}"
        times = medians({name: each.call for name, each in ready.items()}, seconds, timer=CudaTimer())
    measured = {name: (each.work, times[name], each.closeness) for name, each in ready.items()}
    return form_attention_rows(shape, measured, failed, peaks)


def closeness(found: torch.Tensor, exact: torch.Tensor) -> Closeness:
    """Compare a part of a result with the same part of exact attention, in float64."""
    found, exact = found.double().flatten(), exact.double().flatten()
    error = (found - exact).norm() / exact.norm()
    return Closeness(error.item(), functional.cosine_similarity(found, exact, dim=0).item())


def form_attention_rows(
    shape: Heads, measured: MeasuredAttention, failed: Mapping[str, str], peaks: Peaks | None
) -> list[dict[str, object]]:
    """One row a candidate, all with the same columns; None where there is nothing to say."""
    base = measured[BASE][1] if BASE in measured else None
    rows = []
    for name, (work, seconds, close) in measured.items():
        arithmetic, memory = attention_floors(shape, work, peaks)
        rows.append(
            _row(shape, name)
            | {
                "us": seconds * 1e6,
                "x flash": None if base is None else base / seconds,
                "TFLOP/s": attention_operations(shape) / seconds * 1e-12,
                "% of peak": None if arithmetic is None else 100 * arithmetic / seconds,
                "% of bandwidth": None if memory is None else 100 * memory / seconds,
                "relative error": close.error,
                "1 - cosine": 1 - close.cosine,
            }
        )
    return rows + [_row(shape, name) | {"note": reason} for name, reason in failed.items()]


def _row(shape: Heads, name: str) -> dict[str, object]:
    empty = ("us", "x flash", "TFLOP/s", "% of peak", "% of bandwidth", "relative error", "1 - cosine")
    where = {"tokens": shape.tokens, "heads": shape.heads, "dim": shape.dim, "candidate": name}
    return where | dict.fromkeys(empty) | {"note": ""}


def _sdpa(inputs: Inputs, name: str, backend: SDPBackend) -> AttentionCandidate:
    def call() -> torch.Tensor:
        with sdpa_kernel(backend):
            return functional.scaled_dot_product_attention(*inputs)

    return AttentionCandidate(name, AttentionWork("bfloat16", "bfloat16"), call)


def _sage(inputs: Inputs) -> AttentionCandidate:
    from sageattention import sageattn  # type: ignore[import-not-found, unused-ignore]

    # Its own rule picks a kernel: float8 values from compute capability 8.9 on.
    values = "float8" if torch.cuda.get_device_capability() >= (8, 9) else "bfloat16"
    return AttentionCandidate(
        "SageAttention", AttentionWork("int8", values), lambda: sageattn(*inputs, tensor_layout="HND", is_causal=False)
    )


def _tadp(inputs: Inputs, kernel: str) -> AttentionCandidate:
    operands = next(operands for operands in OPERANDS if operands in kernel)
    work = AttentionWork(*(_TYPES[kind] for kind in operands.split("_")))
    return AttentionCandidate(f"tadp {kernel}", work, lambda: torch.ops.tadp.attention(*inputs, None, None, 8, kernel))


if __name__ == "__main__":
    sys.exit(main())

"""How fast is a linear layer at 8, 6 and 4 bits, against bfloat16, float32 and torchao's dynamic int8?

Quantizing the activation is part of every time. All candidates run in one process, in turn, and medians are compared.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import nn
from torch.nn import functional
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

from bench.record import parser, record
from tadp.interleaving import medians
from tadp.kernels import BitPlaneWeight
from tadp.kernels.registry import Kernel, Request, architecture_of, choose
from tadp.kernels.tuning import apply
from tadp.precision import Level

Mode = Literal["compiled", "eager", "absent"]
Shape = tuple[int, int, int]

TOKENS = (1, 16, 512, 1280)
LAYERS = ((192, 192), (384, 384), (384, 1536), (1536, 384), (1024, 1024), (1536, 1536), (1536, 8960), (8960, 1536))
"""Widths ``(in, out)`` of the embedded model and of small ones, then those of Wan2.1-1.3B."""

LEVELS = tuple(map(Level.parse, ("8", "6", "4", "w8a16", "w4a16")))

SHORT: tuple[Shape, ...] = ((16, 1536, 1536), (512, 384, 1536), (1280, 192, 192), (1280, 384, 1536), (1280, 1536, 384))
BASE, WIDE, RIVAL = "bfloat16", "float32", "torchao int8"


def main() -> None:
    """Measure all shapes, or a few of them with ``--short``."""
    options = parser(__doc__)
    options.add_argument("--short", action="store_true", help="a few shapes, under half a minute")
    options.add_argument("--seconds", type=float, help="time for each shape (default 3, with --short 1)")
    chosen = options.parse_args()
    shapes = SHORT if chosen.short else tuple((tokens, *layer) for layer in LAYERS for tokens in TOKENS)
    seconds = chosen.seconds or (1.0 if chosen.short else 3.0)
    with torch.no_grad():
        mode, reason = rival_mode()
        rows = [measure(shape, seconds, mode) for shape in shapes]
    record(
        "linear: milliseconds, and how many times as fast as bfloat16",
        rows,
        chosen.json,
        tadp=torch.ops.tadp.cpu_isa(),
        rival=f"{RIVAL} {mode}" + (f" ({reason})" if reason else ""),
    )


def measure(shape: Shape, seconds: float, mode: Mode) -> dict[str, object]:
    """Medians of interleaved runs of all candidates on one shape ``(tokens, in, out)``."""
    tokens, columns, rows = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, columns, generator=generator).bfloat16()
    weight = (torch.randn(rows, columns, generator=generator) * 0.05).bfloat16()
    times = medians(build(x, weight, mode), seconds)
    row: dict[str, object] = {"tokens": tokens, "in": columns, "out": rows}
    row |= {f"{name}, ms": median * 1e3 for name, median in times.items()}
    row |= {f"{name}, x": times[BASE] / median for name, median in times.items() if name != BASE}
    return row


def build(x: torch.Tensor, weight: torch.Tensor, mode: Mode) -> dict[str, Callable[[], torch.Tensor]]:
    """One callable a candidate, all on the same input and weight."""
    packed = BitPlaneWeight.from_hp(weight)
    wide_x, wide_weight = x.float(), weight.float()  # what a processor without bfloat16 instructions runs better
    candidates: dict[str, Callable[[], torch.Tensor]] = {
        BASE: lambda: functional.linear(x, weight),
        WIDE: lambda: functional.linear(wide_x, wide_weight),
    }
    if mode != "absent":
        rival = rival_linear(weight, mode)
        candidates[RIVAL] = lambda: rival(x)
    for level in LEVELS:
        candidates[f"tadp {level}"] = partial(apply, first_kernel(level, x, weight), level, x, packed)
    return candidates


def first_kernel(level: Level, x: torch.Tensor, weight: torch.Tensor) -> Kernel:
    """What runs where nothing was measured.

    Raises:
        LookupError: where no kernel serves.
    """
    size = (*x.shape, weight.shape[0], 0)
    request = Request(level, *size, x.dtype, x.device.type, architecture_of(x.device))
    kernel = choose(request, x.device)
    if isinstance(kernel, str):
        raise LookupError(kernel)
    return kernel


def rival_mode() -> tuple[Mode, str]:
    """Whether torchao's dynamic int8 can be compiled here, or runs only eagerly, or not at all; and why."""
    reason = ""
    x = torch.randn(16, 192).bfloat16()
    modes: tuple[Mode, ...] = ("compiled", "eager")
    for mode in modes:
        try:
            rival_linear(torch.randn(192, 192).bfloat16(), mode)(x)
        except Exception as error:  # whatever a rival fails with belongs into the table, not on the screen
            lines = str(error).strip().splitlines() or [""]
            reason += f"{mode} fails: {type(error).__name__}: {lines[0][:80]}; "
        else:
            return mode, reason.removesuffix("; ")
    return "absent", reason.removesuffix("; ")


def rival_linear(weight: torch.Tensor, mode: Mode) -> Callable[[torch.Tensor], torch.Tensor]:
    """A linear layer under torchao's dynamic int8 quantization."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    layer.weight = nn.Parameter(weight.clone(), requires_grad=False)
    quantize_(layer, Int8DynamicActivationInt8WeightConfig())
    if mode == "eager":
        return layer
    # For a second shape Dynamo would leave sizes open, and after the eighth it would run the layer eagerly.
    torch._dynamo.reset()
    return torch.compile(layer, dynamic=False)


if __name__ == "__main__":
    main()

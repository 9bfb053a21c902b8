"""What does a GELU cost as a part of the product before it, against a pass of its own over the result?

The layer is the first of Wan2.1-1.3B's feed-forward. Quantizing the activation is part of every time of tadp.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from bench.record import parser, record
from tadp.interleaving import medians
from tadp.kernels import BitPlaneWeight
from tadp.kernels.operators import flatten
from tadp.kernels.values import Codes, Epilogue

COLUMNS, ROWS = 1536, 8960
TOKENS = (16, 512, 1280)
GELU = "gelu_tanh"
BASE, PLAIN, SEPARATE, FUSED = "F.linear + gelu", "tadp 8", "tadp 8 + gelu", "tadp 8 with gelu"


def main() -> None:
    """Measure all numbers of tokens."""
    options = parser(__doc__)
    options.add_argument("--short", action="store_true", help="a few rounds")
    options.add_argument("--seconds", type=float, help="time for each number of tokens (default 30, with --short 3)")
    chosen = options.parse_args()
    seconds = chosen.seconds or (3.0 if chosen.short else 30.0)
    with torch.no_grad():
        rows = [measure(tokens, seconds) for tokens in TOKENS]
    record(
        "nonlinearity: milliseconds, what a GELU adds to the product, and how many times as long others take",
        rows,
        chosen.json,
        columns=COLUMNS,
        rows_of_weight=ROWS,
        tadp=torch.ops.tadp.cpu_isa(),
    )


def measure(tokens: int, seconds: float) -> dict[str, object]:
    """Medians of interleaved runs; what a GELU adds is the difference to the product without one."""
    times = medians(build(tokens), seconds, slow=None)
    row: dict[str, object] = {"tokens": tokens}
    row |= {f"{name}, ms": median * 1e3 for name, median in times.items()}
    row |= {f"gelu {how}, ms": (times[name] - times[PLAIN]) * 1e3 for how, name in (("apart", SEPARATE), ("in", FUSED))}
    return row | {f"{name} / fused": times[name] / times[FUSED] for name in (BASE, SEPARATE)}


def build(tokens: int) -> dict[str, Callable[[], torch.Tensor]]:
    """One callable a candidate, all on the same input, weight and bias."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, COLUMNS, generator=generator).bfloat16()
    weight = (torch.randn(ROWS, COLUMNS, generator=generator) * 0.05).bfloat16()
    bias = torch.randn(ROWS, generator=generator).bfloat16()
    packed = BitPlaneWeight.from_hp(weight)

    def product(nonlinearity: str) -> torch.Tensor:
        codes = torch.ops.tadp.quantize(x)
        return torch.ops.tadp.linear(*flatten(Codes(*codes), packed.planes(8), Epilogue(bias, nonlinearity, x.dtype)))

    return {
        BASE: lambda: functional.gelu(functional.linear(x, weight, bias), approximate="tanh"),
        PLAIN: lambda: product("none"),
        SEPARATE: lambda: functional.gelu(product("none"), approximate="tanh"),
        FUSED: lambda: product(GELU),
    }


if __name__ == "__main__":
    main()

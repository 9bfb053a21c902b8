"""How long does the linear product take on each instruction set, at 8, 6 and 4 bits?

The product alone, on codes that are ready: 512 tokens, 1,536 columns and rows. The rival is the best set that the
processor has; sets that it lacks are left out.
"""

from collections.abc import Callable
from functools import partial

import torch

from bench.record import parser, record
from tadp.interleaving import medians
from tadp.kernels import BitPlaneWeight
from tadp.kernels.formats import WIDTHS
from tadp.kernels.isa import NAMES, cpu_isa, is_available
from tadp.kernels.operators import flatten
from tadp.kernels.values import Codes, Epilogue

TOKENS, COLUMNS, ROWS = 512, 1536, 1536
OPERATIONS = 2 * TOKENS * COLUMNS * ROWS


def main() -> None:
    """Measure every set at every width, interleaved."""
    options = parser(__doc__)
    options.add_argument("--short", action="store_true", help="a few rounds")
    options.add_argument("--seconds", type=float, help="time in all (default 60, with --short 5)")
    chosen = options.parse_args()
    present = [name for name in NAMES if is_available(name)]
    with torch.no_grad():
        # Slow ones take part in every round: portable C++ takes a quarter of a second and more.
        times = medians(build(present), chosen.seconds or (5.0 if chosen.short else 60.0), slow=None)
    record(
        "isa: milliseconds of a product, and how many times as long as the best set",
        [row(name, present[-1], times) for name in present],
        chosen.json,
        tokens=TOKENS,
        columns=COLUMNS,
        rows_of_weight=ROWS,
        absent=", ".join(name for name in NAMES if name not in present) or "none",
    )


def row(name: str, best: str, times: dict[str, float]) -> dict[str, object]:
    """One instruction set at all widths."""
    taken = {width: times[f"{name} {width}"] for width in WIDTHS}
    shown: dict[str, object] = {"instruction set": name}
    shown |= {f"{width} bits, ms": seconds * 1e3 for width, seconds in taken.items()}
    shown |= {f"{width} bits, x": seconds / times[f"{best} {width}"] for width, seconds in taken.items()}
    return shown


def build(sets: list[str]) -> dict[str, Callable[[], object]]:
    """A callable for each set and width."""
    calls = products()
    return {f"{name} {width}": partial(_run_with, name, calls[width]) for name in sets for width in WIDTHS}


def products() -> dict[int, Callable[[], torch.Tensor]]:
    """The product at each width, all on the same codes and weight."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.ops.tadp.quantize(torch.randn(TOKENS, COLUMNS, generator=generator).bfloat16())
    weight = BitPlaneWeight.from_hp(torch.randn(ROWS, COLUMNS, generator=generator).bfloat16())
    return {width: product(codes, weight, width) for width in WIDTHS}


def product(
    codes: tuple[torch.Tensor, ...], weight: BitPlaneWeight, width: int, widths: torch.Tensor | None = None
) -> Callable[[], torch.Tensor]:
    """The linear operator alone, on what quantize returned; ``widths`` are those of single rows, if they have any.

    Its result is bfloat16.
    """
    arguments = flatten(Codes(*codes), weight.planes(width)._replace(widths=widths), Epilogue(dtype=torch.bfloat16))
    return lambda: torch.ops.tadp.linear(*arguments)


def _run_with(name: str, call: Callable[[], object]) -> None:
    with cpu_isa(name):
        call()


if __name__ == "__main__":
    main()

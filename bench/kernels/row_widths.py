"""What does it cost, or save, to read each row of a weight at a width of its own?

The product alone, on codes that are ready. The rival is the same product with all rows at 8 bits and no widths given;
ratios are times as long as it. Where all rows are given one width, a call goes the way it goes without widths; what
that saves shows beside one row in a thousand at 6 bits.
"""

from collections.abc import Callable

import torch

from bench.kernels.isa import product
from bench.record import parser, record
from tadp.interleaving import medians
from tadp.kernels import BitPlaneWeight
from tadp.kernels.formats import WIDTHS

SHAPES = ((512, 1536, 1536), (4, 1536, 8960))  # tokens, columns, rows


def main() -> None:
    """Measure both shapes, interleaved."""
    options = parser(__doc__)
    options.add_argument("--short", action="store_true", help="a few rounds")
    options.add_argument("--seconds", type=float, help="time for each shape (default 30, with --short 2)")
    chosen = options.parse_args()
    with torch.no_grad():
        rows = [row(*shape, chosen.seconds or (2.0 if chosen.short else 30.0)) for shape in SHAPES]
    record("row_widths: times as long as all rows at 8 bits", rows, chosen.json, tadp=torch.ops.tadp.cpu_isa())


def row(tokens: int, columns: int, rows: int, seconds: float) -> dict[str, object]:
    """One shape."""
    times = medians(build(tokens, columns, rows), seconds)
    base = times.pop("8 bits")
    shown: dict[str, object] = {"tokens": tokens, "columns": columns, "rows": rows, "8 bits, ms": base * 1e3}
    return shown | {f"{name}, x": taken / base for name, taken in times.items()}


def build(tokens: int, columns: int, rows: int) -> dict[str, Callable[[], object]]:
    """A callable for each way to give widths; the mix has each width for a third of the rows, in random order."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.ops.tadp.quantize(torch.randn(tokens, columns, generator=generator).bfloat16())
    weight = BitPlaneWeight.from_hp(torch.randn(rows, columns, generator=generator).bfloat16())
    eights = torch.full((rows,), 8, dtype=torch.uint8)
    mix = torch.tensor(WIDTHS, dtype=torch.uint8)[torch.randint(3, (rows,), generator=generator)]
    given = {
        "widths, all 8": eights,
        "one in 1,000 at 6": torch.where(torch.arange(rows) % 1000 == 500, 6, eights),
        "mix, shuffled": mix,
        "mix, sorted": mix.sort(descending=True).values,
    }
    alone: dict[str, Callable[[], object]] = {f"{width} bits": product(codes, weight, width) for width in WIDTHS}
    return alone | {name: product(codes, weight, 8, widths) for name, widths in given.items()}


if __name__ == "__main__":
    main()

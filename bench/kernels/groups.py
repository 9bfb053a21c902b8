"""What do scales for groups of columns gain in precision, and what do they cost in time, against one scale a row?"""

import torch

from bench.kernels.planes import DISTRIBUTIONS, signal_to_noise
from bench.record import parser, record
from tadp.interleaving import medians
from tadp.kernels import BitPlaneWeight
from tadp.kernels.formats import GROUP_SIZES, WIDTHS

COLUMNS, ROWS = 1536, 1536
TOKENS = (1, 16, 512)
SIZES = (None, *GROUP_SIZES)


def main() -> None:
    """Signal-to-noise of weights by distribution, then times by number of tokens."""
    options = parser(__doc__)
    options.add_argument("--short", action="store_true", help="a few rounds")
    options.add_argument("--seconds", type=float, help="time for each number of tokens (default 10, with --short 1)")
    chosen = options.parse_args()
    seconds = chosen.seconds or (1.0 if chosen.short else 10.0)
    rows = [{"what": f"{name}, dB"} | precision(name) for name in DISTRIBUTIONS]
    with torch.no_grad():
        rows += [{"what": f"{tokens} tokens, ms"} | times(tokens, seconds) for tokens in TOKENS]
    record("groups", rows, chosen.json, columns=COLUMNS, rows_of_weight=ROWS, tadp=torch.ops.tadp.cpu_isa())


def precision(name: str) -> dict[str, object]:
    """Decibels by width and group size."""
    weight = DISTRIBUTIONS[name](torch.Generator().manual_seed(0))
    packed = {size: BitPlaneWeight.from_hp(weight, size) for size in SIZES}
    return {
        _column(width, size): signal_to_noise(weight, held.dequantize(width))
        for width in WIDTHS
        for size, held in packed.items()
    }


def times(tokens: int, seconds: float) -> dict[str, object]:
    """Milliseconds of quantizing and multiplying, by width and group size."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(tokens, COLUMNS, generator=generator).bfloat16()
    weight = (torch.randn(ROWS, COLUMNS, generator=generator) * 0.05).bfloat16()
    packed = {size: BitPlaneWeight.from_hp(weight, size) for size in SIZES}
    calls = {
        _column(width, size): lambda width=width, held=held: held.linear(x, width=width)
        for width in WIDTHS
        for size, held in packed.items()
    }
    return {name: median * 1e3 for name, median in medians(calls, seconds).items()}


def _column(width: int, size: int | None) -> str:
    return f"{width} bits, {'row' if size is None else size}"


if __name__ == "__main__":
    main()

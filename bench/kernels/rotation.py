"""What does rotating columns add to the quantizer, against the product behind it?

Activations in bfloat16 on one thread; `python -m bench.kernels.layers --rotate` says what rotations gain.
"""

import torch

from bench.record import parser, record
from tadp.interleaving import medians
from tadp.kernels import BitPlaneWeight
from tadp.kernels.rotation import size_for

SHAPES = ((512, 768, 192), (512, 8960, 1536), (512, 13824, 5120))
"""Tokens, columns and rows of ffn.down: of the embedded model, of Wan2.1-1.3B and of Wan2.1-14B."""


def main() -> None:
    """A row for each shape."""
    options = parser(__doc__)
    options.add_argument("--seconds", type=float, default=2.0, help="time for each shape")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    with torch.no_grad():
        record("rotation", [measured(shape, chosen.seconds) for shape in SHAPES], chosen.json)


def measured(shape: tuple[int, int, int], seconds: float) -> dict[str, object]:
    """Milliseconds of the quantizer with and without a rotation, and of the product."""
    tokens, columns, rows = shape
    x, size = torch.randn(tokens, columns).bfloat16(), size_for(columns)
    planes = BitPlaneWeight.from_hp(torch.randn(rows, columns)).planes(8)
    codes = torch.ops.tadp.quantize(x)
    times = medians(
        {
            "quantizer": lambda: torch.ops.tadp.quantize(x),
            "with rotation": lambda: torch.ops.tadp.quantize(x, 0, size),
            "product": lambda: torch.ops.tadp.linear(*codes, *planes[:4], None, x.dtype),
        },
        seconds,
        slow=None,
    )
    added = times["with rotation"] - times["quantizer"]
    found: dict[str, object] = {"tokens": tokens, "columns": columns, "rows": rows}
    found |= {f"{name}, ms": 1e3 * value for name, value in times.items()}
    return found | {"% of the product": 100 * added / times["product"], "ns an element": 1e9 * added / x.numel()}


if __name__ == "__main__":
    main()

"""How fast is attention at 8 bits, against PyTorch's own operator in bfloat16 and in float32?

Quantizing queries, keys and values is part of every time. All candidates run in one process, in turn, and medians are
compared. The rate is compared with that of a linear layer's 8-bit product alone, the processor's integer rate in
practice, and with that of its instructions alone, where ``bench.kernels.instruction_floor`` knows it. The last columns
say how far 8 bits are from the exact result, and bfloat16 for comparison, relative, on gaussian values.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

from bench.kernels.instruction_floor import rates
from bench.kernels.isa import OPERATIONS, products
from bench.record import parser, record
from tadp.interleaving import medians
from tadp.kernels import reference

BASE, WIDE, OURS, LINEAR = "bfloat16", "float32", "8 bits", "linear"


@dataclass(frozen=True)
class Shape:
    """One attention product of one sample, bfloat16, all heads of one size."""

    heads: int
    queries: int
    keys: int
    dim: int

    @property
    def operations(self) -> int:
        """Multiplications and additions of both products."""
        return 4 * self.heads * self.queries * self.keys * self.dim


SHAPES = (
    *(Shape(heads, tokens, tokens, dim) for tokens in (1280, 2560, 4096) for heads in (6, 12) for dim in (64, 128)),
    Shape(12, 1280, 512, 128),
    Shape(12, 4096, 512, 128),
    Shape(3, 1280, 1280, 64),
    Shape(3, 1280, 64, 64),
)
"""Self-attention of 6 and 12 heads, then cross-attention on Wan's 512 words, then both of the embedded model."""

SHORT = (Shape(6, 1280, 1280, 64), Shape(12, 1280, 1280, 128))


def main() -> None:
    """Measure all shapes, or two of them with ``--short``."""
    options = parser(__doc__)
    options.add_argument("--short", action="store_true", help="two shapes, under half a minute")
    options.add_argument("--seconds", type=float, help="time for each shape (default 15, with --short 5)")
    chosen = options.parse_args()
    seconds = chosen.seconds or (5.0 if chosen.short else 15.0)
    with torch.no_grad():
        rows = [measure(shape, seconds) for shape in (SHORT if chosen.short else SHAPES)]
    record(
        "attention: milliseconds, and how many times as fast as PyTorch's operator",
        rows,
        chosen.json,
        tadp=torch.ops.tadp.cpu_isa(),
        lowest_of_self_attention=min(float(str(row[f"x {BASE}"])) for row in rows if row["keys"] == row["queries"]),
    )


def measure(shape: Shape, seconds: float) -> dict[str, object]:
    """Medians of interleaved runs of all candidates on one shape."""
    q, k, v = values(shape)
    wide = [x.float() for x in (q, k, v)]
    times = medians(
        {
            BASE: lambda: scaled_dot_product_attention(q, k, v),
            WIDE: lambda: scaled_dot_product_attention(*wide),
            OURS: lambda: torch.ops.tadp.attention(q, k, v),
            LINEAR: products()[8],
        },
        seconds,
        slow=None,
    )
    some = q[:, :, :: max(1, shape.queries // 256)]  # float64 scores of all queries would take gigabytes
    exact = reference.attention(some, k, v, dtype=torch.float64)
    return {
        "heads": shape.heads,
        "queries": shape.queries,
        "keys": shape.keys,
        "dim": shape.dim,
        **{f"{name}, ms": times[name] * 1e3 for name in (BASE, WIDE, OURS)},
        "TOP/s": shape.operations / times[OURS] / 1e12,
        "% of the linear product's rate": 100 * shape.operations / times[OURS] / (OPERATIONS / times[LINEAR]),
        **_share_of_instructions(shape.operations / times[OURS]),
        f"x {BASE}": times[BASE] / times[OURS],
        f"x {WIDE}": times[WIDE] / times[OURS],
        "error": _error(torch.ops.tadp.attention(some, k, v), exact),
        f"error of {BASE}": _error(scaled_dot_product_attention(some, k, v), exact),
    }


def values(shape: Shape) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gaussian q, k and v, laid out as models have them: the heads of a token side by side."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(1, tokens, shape.heads, shape.dim, generator=generator).bfloat16().transpose(1, 2)
        for tokens in (shape.queries, shape.keys, shape.keys)
    )
    return q, k, v


def _share_of_instructions(rate: float) -> dict[str, float]:
    """What operations a second are of the rate of the 8-bit instructions on all threads; nothing if that is unknown."""
    peak = rates(torch.ops.tadp.cpu_isa()).get(8)
    return {} if peak is None else {"% of the instructions' rate": 100 * rate / peak / torch.get_num_threads()}


def _error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.double() - exact).norm() / exact.norm())


if __name__ == "__main__":
    main()

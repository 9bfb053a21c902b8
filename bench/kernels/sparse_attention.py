"""How fast is attention at 8 bits over a share of the key blocks, against all of them and against PyTorch's operator?

Quantizing is part of every time of ours, choosing the blocks is not: it has a column of its own, and is counted in the
last two. All candidates run in one process, in turn, and medians are compared. What does not depend on the share, such
as quantizing, is told apart by a run over one block of keys: "of dense" is the time as a part of that over all blocks,
"without the fixed part" the same once this is taken off both. Gaussian values, whose kept blocks lie about at random,
which is the worst that can happen; the diagonal is pinned.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

from bench.record import parser, record
from tadp.interleaving import medians, timed
from tadp.kernels.block_map import KEY_BLOCK, blocks_of, map_shape

BASE, DENSE, MAP, ONE = "bfloat16", "8 bits", "map", "one block"
SHARES = (1.0, 0.5, 0.25, 0.1)


@dataclass(frozen=True)
class Shape:
    """Self-attention of one sample in bfloat16."""

    heads: int
    tokens: int
    dim: int


SHAPES = (
    *(Shape(3, tokens, 64) for tokens in (512, 768, 1024, 1280, 2560, 4096, 8192)),
    *(Shape(3, tokens, 128) for tokens in (1280, 4096, 8192)),
    Shape(12, 1280, 128),
)
"""The embedded model's heads at several lengths, then Wan's."""

SHORT = (Shape(3, 1280, 64), Shape(3, 4096, 64))


def main() -> None:
    """Measure all shapes, or two of them with ``--short``."""
    options = parser(__doc__)
    options.add_argument("--short", action="store_true", help="two shapes, under half a minute")
    options.add_argument("--seconds", type=float, help="time for each shape (default 15, with --short 5)")
    options.add_argument("--busy", action="store_true", help="count the process's own time: one thread, a shared core")
    chosen = options.parse_args()
    seconds = chosen.seconds or (5.0 if chosen.short else 15.0)
    shapes = SHORT if chosen.short else SHAPES
    timer = own_time if chosen.busy else timed
    with torch.no_grad():
        rows = [row for shape in shapes for row in measure(shape, seconds, timer)]
    record(
        "sparse attention: milliseconds, and parts of the time over all blocks",
        rows,
        chosen.json,
        tadp=torch.ops.tadp.cpu_isa(),
        clock="the process's own time, on a core that others use too" if chosen.busy else "wall",
    )


def own_time(call: Callable[[], object]) -> float:
    """Seconds that the process itself ran during a call."""
    started = time.process_time()
    call()
    return time.process_time() - started


def measure(shape: Shape, seconds: float, timer: Callable[[Callable[[], object]], float]) -> list[dict[str, object]]:
    """Medians of interleaved runs of all candidates on one shape, a row for each share."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(1, shape.tokens, shape.heads, shape.dim, generator=generator).bfloat16().transpose(1, 2)
        for _ in range(3)
    )
    blocks = blocks_of(shape.tokens, KEY_BLOCK)
    one = torch.zeros(map_shape(q, k, 64), dtype=torch.bool)
    one[..., 0] = True
    maps = {share: torch.ops.tadp.block_map(q, k, share) for share in SHARES}

    def sparse(block_map: torch.Tensor) -> Callable[[], torch.Tensor]:
        return lambda: torch.ops.tadp.attention(q, k, v, block_map=block_map)

    times = medians(
        {
            BASE: lambda: scaled_dot_product_attention(q, k, v),
            DENSE: lambda: torch.ops.tadp.attention(q, k, v),
            MAP: lambda: torch.ops.tadp.block_map(q, k, 0.25),
            ONE: sparse(one),
            **{str(share): sparse(block_map) for share, block_map in maps.items()},
        },
        seconds,
        slow=None,
        timer=timer,
    )
    dense = times[DENSE]
    fixed = (times[ONE] - dense / blocks) / (1 - 1 / blocks)
    rows: list[dict[str, object]] = []
    for share, block_map in maps.items():
        spent = times[str(share)]
        rows.append(
            {
                "heads": shape.heads,
                "tokens": shape.tokens,
                "dim": shape.dim,
                "share": float(block_map.float().mean()),
                f"{BASE}, ms": times[BASE] * 1e3,
                f"{DENSE}, ms": dense * 1e3,
                "sparse, ms": spent * 1e3,
                "map, ms": times[MAP] * 1e3,
                "of dense": spent / dense,
                "without the fixed part": (spent - fixed) / (dense - fixed),
                f"x {DENSE}": dense / (spent + times[MAP]),
                f"x {BASE}": times[BASE] / (spent + times[MAP]),
            }
        )
    return rows


if __name__ == "__main__":
    main()

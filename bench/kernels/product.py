"""How much of the rate of oneDNN's int8 products does the linear product alone reach, on codes that are ready?

torch leads to oneDNN in three ways. qlinear multiplies unsigned activations with a prepacked weight and returns
bfloat16, as tadp's product does, though with one activation scale for all tokens. _int_mm returns bare 32-bit sums.
linear_dynamic quantizes float32 activations itself, which is part of its time. Shapes have 512 tokens and more: below,
reading weights is what takes time.

The last columns say what share that is of the rate that the instructions of the active set reach on registers only, on
as many cores as there are threads (``bench.kernels.instruction_floor``).
"""

import statistics
from collections.abc import Callable
from typing import Any

import torch

from bench.kernels.instruction_floor import rates
from bench.kernels.isa import product
from bench.kernels.linear import LAYERS, TOKENS, Shape
from bench.record import parser, record
from tadp.interleaving import medians
from tadp.kernels import BitPlaneWeight
from tadp.kernels.formats import WIDTHS

SHAPES: tuple[Shape, ...] = tuple((tokens, *layer) for layer in LAYERS for tokens in TOKENS if tokens >= 512)
SHORT: tuple[Shape, ...] = ((512, 384, 1536), (512, 1536, 1536))
SHARE = "tadp 8, % of the fastest rival's rate"

SCALE = 2.0**-6
"""Of activations, and of weights; a power of two, so that no rival rounds before its result."""


def main() -> None:
    """Measure all shapes, or two of them with ``--short``."""
    options = parser(__doc__)
    options.add_argument("--short", action="store_true", help="two shapes")
    options.add_argument("--seconds", type=float, help="time for each shape (default 3, with --short 1)")
    chosen = options.parse_args()
    seconds = chosen.seconds or (1.0 if chosen.short else 3.0)
    with torch.no_grad():
        failures = {name: failure(build) for name, build in RIVALS.items()}
        present = [name for name, reason in failures.items() if not reason]
        rows = [measure(shape, seconds, present) for shape in (SHORT if chosen.short else SHAPES)]
    shares = [share for row in rows if isinstance(share := row[SHARE], float)]
    record(
        "product: milliseconds without quantizing",
        rows,
        chosen.json,
        tadp=torch.ops.tadp.cpu_isa(),
        lowest_share=min(shares),
        median_share=statistics.median(shares),
        absent=", ".join(f"{name} ({reason})" for name, reason in failures.items() if reason) or "none",
    )


def measure(shape: Shape, seconds: float, rivals: list[str]) -> dict[str, object]:
    """Medians of interleaved runs on one shape ``(tokens, in, out)``, and tadp's share of the fastest rival's rate."""
    tokens, columns, rows = shape
    codes, weight = operands(shape)
    generator = torch.Generator().manual_seed(1)
    packed = BitPlaneWeight.from_hp(torch.randn(rows, columns, generator=generator))
    quantized = (codes, torch.full((tokens,), SCALE), codes.sum(-1, dtype=torch.int32))
    candidates: dict[str, Callable[[], torch.Tensor]] = {name: RIVALS[name](codes, weight) for name in rivals}
    candidates |= {f"tadp {width}": product(quantized, packed, width) for width in WIDTHS}
    times = medians(candidates, seconds)
    fastest = min(rivals, key=times.__getitem__)
    row: dict[str, object] = {"tokens": tokens, "in": columns, "out": rows}
    row |= {f"{name}, ms": median * 1e3 for name, median in times.items()}
    row |= {"fastest rival": fastest, SHARE: 100 * times[fastest] / times["tadp 8"]}
    return row | floor_shares(shape, {width: times[f"tadp {width}"] for width in WIDTHS})


def floor_shares(shape: Shape, times: dict[int, float]) -> dict[str, object]:
    """What products of one shape reach of the rate of their instructions, in percent by width; nothing if unknown."""
    tokens, columns, rows = shape
    floor = {width: 2 * tokens * columns * rows / rate for width, rate in rates(torch.ops.tadp.cpu_isa()).items()}
    return {
        f"tadp {width}, % of the instructions' rate": 100 * seconds / torch.get_num_threads() / times[width]
        for width, seconds in floor.items()
    }


def operands(shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Signed codes of activations ``(tokens, in)`` and of a weight ``(out, in)``, int8."""
    tokens, columns, rows = shape
    generator = torch.Generator().manual_seed(0)
    sizes = ((tokens, columns), (rows, columns))
    codes, weight = (torch.randint(-127, 128, size, generator=generator, dtype=torch.int8) for size in sizes)
    return codes, weight


def failure(build: Callable[[torch.Tensor, torch.Tensor], Callable[[], torch.Tensor]]) -> str:
    """Why a rival cannot be measured here: it fails, or does not compute the product of the codes. Empty if it can."""
    codes, weight = operands((32, 64, 48))
    try:
        found = build(codes, weight)().double()
    except Exception as error:  # whatever a rival fails with belongs into the table, not on the screen
        return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:80]}"
    exact = codes.double() @ weight.double().T
    if found.abs().max() < exact.abs().max() / 2:  # a rival that knows scales has applied them
        exact *= SCALE**2
    # bfloat16 keeps eight bits; linear_dynamic chooses its own scale, half a step of 1 / 255 of the range off.
    return "" if (found - exact).norm() < 2**-6 * exact.norm() else "computes something else"


def _qlinear(codes: torch.Tensor, weight: torch.Tensor) -> Callable[[], torch.Tensor]:
    # With signed activations oneDNN would take a reference path, ten thousand times slower.
    shifted = (codes.short() + 128).to(torch.uint8)
    packed = torch.ops.onednn.qlinear_prepack(weight, list(codes.shape))
    scales, zeros = torch.full((weight.shape[0],), SCALE), torch.zeros(weight.shape[0], dtype=torch.int64)
    rest: tuple[Any, ...] = (scales, zeros, None, 1.0, 0, torch.bfloat16, "none", [], "")
    return lambda: torch.ops.onednn.qlinear_pointwise.default(shifted, SCALE, 128, packed, *rest)


def _int_mm(codes: torch.Tensor, weight: torch.Tensor) -> Callable[[], torch.Tensor]:
    transposed = weight.t()
    return lambda: torch._int_mm(codes, transposed)


def _linear_dynamic(codes: torch.Tensor, weight: torch.Tensor) -> Callable[[], torch.Tensor]:
    rows = weight.shape[0]
    scales, zeros = torch.full((rows,), SCALE, dtype=torch.float64), torch.zeros(rows, dtype=torch.int64)
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn"  # who packs also multiplies
    try:
        quantized = torch._make_per_channel_quantized_tensor(weight, scales, zeros, 0)
        packed = torch.ops.quantized.linear_prepack(quantized, None)
    finally:
        torch.backends.quantized.engine = engine
    x = codes.float() * SCALE
    return lambda: torch.ops.quantized.linear_dynamic(x, packed)


RIVALS = {"qlinear": _qlinear, "_int_mm": _int_mm, "linear_dynamic": _linear_dynamic}


if __name__ == "__main__":
    main()

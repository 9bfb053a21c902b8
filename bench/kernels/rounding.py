"""What does attention lose by rounding its weights and values to 8 bits, and how much less with error feedback?

Everything else is exact, in float64, so that only the rounding shows: of weights, relative to the largest of their
block of 192 keys; of values, with one scale for each channel of a block; of both. With error feedback, what rounding
loses of one key is added to the next. The products are the embedded model's at several steps, and gaussian ones of two
lengths.
"""

import statistics
from collections.abc import Callable

import torch

from bench.models.model import demo_attention
from bench.record import parser, record

BLOCK = 192
Round = Callable[[torch.Tensor], torch.Tensor]


def main() -> None:
    """Print mean and largest relative errors of each way of rounding, by kind of product."""
    options = parser(__doc__)
    options.add_argument("--every", type=int, default=5, help="look at every so manyth product")
    chosen = options.parse_args()
    kinds: dict[str, list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]] = {}
    for q, k, v in demo_attention(chosen.every):
        kinds.setdefault(f"{'self' if k.shape[2] == q.shape[2] else 'cross'}-attention, {k.shape[2]} keys", []).append(
            (q[:, :, ::8], k, v)
        )
    kinds |= {f"gaussian, {keys} keys": [gaussian(keys)] for keys in (256, 1280)}
    record("rounding", [row for kind, products in kinds.items() for row in rows_of(kind, products)], chosen.json)


def rows_of(kind: str, products: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> list[dict[str, object]]:
    """One kind of product: relative errors, mean and largest, where weights, values or both are rounded."""
    ways: dict[str, tuple[tuple[Round, Round], tuple[Round, Round]]] = {
        "weights": ((torch.round, _exact), (feed_back_by_two, _exact)),
        "values": ((_exact, torch.round), (_exact, feed_back)),
        "both": ((torch.round, torch.round), (feed_back_by_two, feed_back)),
    }
    rows = []
    for name, (nearest, feedback) in ways.items():
        errors = [[error(*(x.double() for x in product), *way) for product in products] for way in (nearest, feedback)]
        rows.append(
            {
                "products": kind,
                "rounded": name,
                "to nearest": statistics.fmean(errors[0]),
                "largest": max(errors[0]),
                "with feedback": statistics.fmean(errors[1]),
                "largest ": max(errors[1]),
            }
        )
    return rows


def error(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, of_weights: Round, of_values: Round) -> float:
    """Relative error of attention with rounded weights and values."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    exact = scores.softmax(-1) @ v
    mean, highest = v.mean(-2, keepdim=True), scores.amax(-1, keepdim=True)
    totals, sums = torch.zeros_like(exact), torch.zeros_like(highest)
    for part, values in zip(scores.split(BLOCK, -1), (v - mean).split(BLOCK, -2), strict=True):
        peak, step = part.amax(-1, keepdim=True), values.abs().amax(-2, keepdim=True).clamp(min=1e-30) / 126
        weights = of_weights(255 * (part - peak).exp()) * (peak - highest).exp()
        codes = of_values((values / step).transpose(-1, -2)).transpose(-1, -2)
        totals, sums = totals + weights @ (codes * step), sums + weights.sum(-1, keepdim=True)
    return float((totals / sums + mean - exact).norm() / exact.norm())


def feed_back(x: torch.Tensor) -> torch.Tensor:
    """Round along the last dimension, adding to each number what rounding the one before it lost."""
    rounded, lost = torch.empty_like(x), torch.zeros_like(x[..., 0])
    for index in range(x.shape[-1]):
        wanted = x[..., index] + lost
        rounded[..., index] = wanted.round()
        lost = wanted - rounded[..., index]
    return rounded


def feed_back_by_two(x: torch.Tensor) -> torch.Tensor:
    """The same for even and odd places by themselves, as csrc/cpu rounds weights."""
    rounded = torch.empty_like(x)
    for start in range(2):
        rounded[..., start::2] = feed_back(x[..., start::2])
    return rounded


def gaussian(keys: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gaussian q, k and v of two heads of 64."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, tokens, 64, generator=generator) for tokens in (160, keys, keys))
    return q, k, v


def _exact(x: torch.Tensor) -> torch.Tensor:
    return x


if __name__ == "__main__":
    main()

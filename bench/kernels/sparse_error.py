"""How far is attention over a share of the key blocks from the exact one, on what the embedded model gives it?

Self-attention of 1,280 tokens, 20 blocks, at several steps of a generation: mean and largest relative errors over the
products. "exact" leaves the blocks out and rounds nothing, "8 bits" is the kernel. The rule of shares keeps as many
blocks for each block of queries; that of mass as many as its guessed weights ask for, and "share" says how many these
were. "oracle" keeps as many blocks, but those with the largest true weights. The diagonal is pinned.

The last columns say whether the entropy that probes measure would tell how much to keep: its rank correlation, over the
products, with the error and with the share that the rule kept.
"""

import statistics
from collections.abc import Callable

import torch
from scipy import stats

from bench.models.model import demo_attention
from bench.record import parser, record
from tadp.kernels import reference
from tadp.kernels.block_map import KEY_BLOCK, choose_blocks, map_shape, pins
from tadp.runtime.signals import attention_entropy

SHARES = (1.0, 0.75, 0.5, 0.25, 0.1)
MASSES = (0.99, 0.95, 0.9, 0.8, 0.6)

Product = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Rule = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def main() -> None:
    """Print a row for each rule."""
    options = parser(__doc__)
    options.add_argument("--every", type=int, default=3, help="look at every so manyth product")
    chosen = options.parse_args()
    products = [product for product in demo_attention(chosen.every) if product[0].shape[2] == product[1].shape[2]]
    with torch.no_grad():
        rows = [row_of(f"share {share:g}", products, lambda q, k, s=share: choose_blocks(q, k, s)) for share in SHARES]
        rows += [
            row_of(f"mass {mass:g}", products, lambda q, k, m=mass: choose_blocks(q, k, mass=m)) for mass in MASSES
        ]
    record("sparse attention: relative errors by rule", rows, chosen.json, products=len(products))


def row_of(name: str, products: list[Product], rule: Rule) -> dict[str, object]:
    """Errors of a rule over all products."""
    errors: dict[str, list[float]] = {"exact": [], "oracle": [], "8 bits": []}
    shares: list[float] = []
    entropies = [float(attention_entropy(q, k)[0, 0]) for q, k, _ in products]
    for q, k, v in products:
        exact = reference.attention(q, k, v, dtype=torch.float64)
        kept = rule(q, k)
        shares.append(float(kept.float().mean()))
        best = true_blocks(q, k, kept.sum(-1))
        for way, found in (
            ("exact", reference.attention(q, k, v, dtype=torch.float64, block_map=kept)),
            ("oracle", reference.attention(q, k, v, dtype=torch.float64, block_map=best)),
            ("8 bits", torch.ops.tadp.attention(q, k, v, block_map=kept).double()),
        ):
            errors[way].append(float((found - exact).norm() / exact.norm()))
    means = {f"{way}, mean": statistics.mean(found) for way, found in errors.items()}
    largest = {f"{way}, largest": max(found) for way, found in errors.items()}
    told = {
        "entropy with error": _rank_correlation(entropies, errors["exact"]),
        "entropy with share": _rank_correlation(entropies, shares),
    }
    return {"rule": name, "share": statistics.mean(shares), **means, **largest, **told}


def _rank_correlation(first: list[float], second: list[float]) -> float | str:
    """Spearman's; "" where one of them never changes."""
    changes = len(set(first)) > 1 < len(set(second))
    return float(stats.spearmanr(first, second).statistic) if changes else ""


def true_blocks(q: torch.Tensor, k: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """A map of as many blocks as ``counts`` says, ``(batch, heads, query blocks)``, by their true weights."""
    weights = (q.double() @ k.double().mT * q.shape[-1] ** -0.5).softmax(-1)
    rows, columns = map_shape(q, k, KEY_BLOCK)[2:]
    by_block = weights.unflatten(-1, (columns, KEY_BLOCK)).sum(-1).unflatten(-2, (rows, KEY_BLOCK)).sum(-2)
    pinned = pins(rows, columns, KEY_BLOCK, True, 0, 0, q.device)
    place = by_block.masked_fill(pinned, torch.inf).argsort(-1, descending=True).argsort(-1)
    return place < counts[..., None]


if __name__ == "__main__":
    main()

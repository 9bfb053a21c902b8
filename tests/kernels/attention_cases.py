"""Inputs of the tests of attention, and how far csrc/cpu may be off on them."""

from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st

from tadp.doctor.attention_bounds import BLOCK, PART, UNIT, attention_bound
from tadp.kernels import reference

__all__ = ["BLOCK", "DIMS", "KEYS", "MASKS", "PART", "QUERIES", "UNIT", "Attention", "bound", "case", "masked"]

# One, primes, around the 64 queries of a tile, the 6 and 4 keys of a product and the 192 of a block.
QUERIES = st.sampled_from([1, 2, 3, 5, 17, 63, 64, 65, 67, 128, 131])
KEYS = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 16, 59, 64, 128, 191, 192, 193, 196, 251, 384, 391])
DIMS = st.sampled_from([32, 33, 40, 47, 64, 72, 80, 96, 127, 128, 160, 255, 256])
MASKS = st.sampled_from(["none", "padding", "boolean", "hidden", "additive", "infinite", "least"])


@dataclass(frozen=True)
class Attention:
    """Arguments of one attention product."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    mask: torch.Tensor | None = None
    scale: float | None = None
    block_map: torch.Tensor | None = None

    def run(self) -> torch.Tensor:
        found: torch.Tensor = torch.ops.tadp.attention(
            self.q, self.k, self.v, self.mask, self.scale, block_map=self.block_map
        )
        return found

    def exact(self) -> torch.Tensor:
        return reference.attention(
            self.q, self.k, self.v, self.mask, self.scale, dtype=torch.float64, block_map=self.block_map
        )

    @property
    def factor(self) -> float:
        return self.q.shape[-1] ** -0.5 if self.scale is None else self.scale

    def of(self, batch: int, head: int) -> "Attention":
        """One head of one sample."""
        q, k, v = (tensor[batch : batch + 1, head : head + 1] for tensor in (self.q, self.k, self.v))
        mask = self.mask
        if mask is not None:
            mask = mask.expand(*self.q.shape[:3], self.k.shape[2])[batch : batch + 1, head : head + 1]
        block_map = None if self.block_map is None else self.block_map[batch : batch + 1, head : head + 1]
        return replace(self, q=q, k=k, v=v, mask=mask, block_map=block_map)


def case(
    seed: int,
    batch: int,
    heads: int,
    queries: int,
    keys: int,
    dim: int,
    dtype: torch.dtype = torch.float32,
    mask: str = "none",
) -> Attention:
    """Normal values, of different size for each token and channel, laid out with the heads of a token side by side."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> torch.Tensor:
        x = torch.randn(batch, count, heads, dim, generator=generator)
        sizes = torch.rand(batch, count, 1, 1, generator=generator) + torch.rand(1, 1, heads, dim, generator=generator)
        return (x * sizes + torch.randn(1, 1, heads, dim, generator=generator)).to(dtype).transpose(1, 2)

    made = Attention(tokens(queries), tokens(keys), tokens(keys))
    return replace(made, mask=masked(mask, generator, batch, heads, queries, keys, dtype))


def masked(
    kind: str, generator: torch.Generator, batch: int, heads: int, queries: int, keys: int, dtype: torch.dtype
) -> torch.Tensor | None:
    """A mask: none; the last keys of each sample hidden; any; any, with a query that sees nothing; or additive ones."""
    if kind == "none":
        return None
    if kind == "padding":
        seen = torch.randint(1, keys + 1, (batch, 1, 1, 1), generator=generator)
        return torch.arange(keys) < seen
    visible = torch.rand(batch, 1, queries, keys, generator=generator) < 0.7
    if kind == "boolean":
        return visible
    if kind == "hidden":
        visible[:, :, -1] = False
        return visible
    added = torch.randn(1, heads, queries, keys, generator=generator).to(dtype)
    if kind == "additive":
        return added
    lowest = -torch.inf if kind == "infinite" else torch.finfo(dtype).min
    return added.masked_fill(~visible[:1], lowest)


def bound(case: Attention) -> torch.Tensor:
    """Most by which results of csrc/cpu may differ from exact ones, ``(batch, heads, queries, dim)``."""
    return attention_bound(case.q, case.k, case.v, case.mask, case.scale, case.block_map)

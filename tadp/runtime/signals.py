"""Signals: what a probe measures inside a block, per sample of the batch, and how readings become values.

The first three functions run inside the compiled probe variant; what they return is read once, when the step is over.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

import torch

SAMPLED_QUERIES = 64
HIDDEN_BELOW = -1e3
"""Additive masks use minus infinity or some large negative number; scores do not get there."""


def attention_entropy(
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None = None,
    scale: float | None = None,
    samples: int = SAMPLED_QUERIES,
) -> torch.Tensor:
    """Entropy of the attention weights over the logarithm of the number of keys: 1 is uniform, 0 is one-hot.

    Taken from about `samples` evenly spaced queries and all heads. Of masked attention only the keys that a query may
    see count; queries that see one key or none say nothing and are left out.

    Args:
        query: ``(batch, heads, queries, dim)``.
        key: ``(batch, heads, keys, dim)``; fewer heads than queries have are shared among them.
        mask: None, boolean (True: attend) or additive, broadcastable to ``(batch, heads, queries, keys)``.
        scale: factor of the scores, 1 / sqrt(dim) where None.
        samples: how many queries are looked at.

    Returns:
        ``(batch, 1)`` float32.
    """
    count, keys = query.shape[-2], key.shape[-2]
    stride = max(1, count // samples)
    if key.shape[1] != query.shape[1]:
        key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = torch.matmul(query[..., ::stride, :], key.transpose(-1, -2)).float()
    scores = scores * (query.shape[-1] ** -0.5 if scale is None else scale)
    if mask is None:
        logs = torch.log_softmax(scores, dim=-1)
        return -(logs.exp() * logs).sum(-1).flatten(1).mean(1, keepdim=True) / math.log(max(keys, 2))
    rows = mask[..., ::stride, :] if mask.shape[-2] == count else mask
    seen = (rows if rows.dtype == torch.bool else rows > HIDDEN_BELOW).expand(scores.shape)
    scores = scores if rows.dtype == torch.bool else scores + rows
    logs = torch.log_softmax(scores.masked_fill(~seen, torch.finfo(torch.float32).min), dim=-1)
    number = seen.sum(-1)
    share = -(logs.exp() * logs * seen).sum(-1) / number.clamp(min=2).float().log()
    counted = number > 1
    return ((share * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1))[:, None]


def activation_moments(values: torch.Tensor) -> torch.Tensor:
    """Kurtosis (3 for a gaussian) and skewness of all values of a sample.

    Args:
        values: ``(batch, ...)``.

    Returns:
        ``(batch, 2)`` float32.
    """
    flat = values.float().flatten(1)
    centered = flat - flat.mean(1, keepdim=True)
    square = centered.square()
    variance = square.mean(1).clamp(min=1e-12)
    kurtosis = square.square().mean(1) / variance.square()
    skewness = (square * centered).mean(1) / variance.pow(1.5)
    return torch.stack([kurtosis, skewness], dim=1)


def relative_change(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """``||after - before|| / ||before||`` of a block: ``(batch, 1)`` float32 (6Bit-Diffusion, arXiv 2603.18742)."""
    before, after = before.float().flatten(1), after.float().flatten(1)
    return ((after - before).norm(dim=1) / before.norm(dim=1).clamp(min=1e-12))[:, None]


@dataclass(frozen=True)
class BlockSignals:
    """The signals of one block; every tuple has one value per sample of the batch.

    Attributes:
        piece: the block's name.
        entropy: normalised attention entropy of the first (self-)attention of the block.
        kurtosis, skewness: by layer, of what the layer takes in.
        relative_change: of the block's output against its input.
    """

    piece: str
    entropy: tuple[float, ...] = ()
    kurtosis: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    skewness: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    relative_change: tuple[float, ...] = ()


@dataclass(frozen=True)
class Signals:
    """The signals of one forward of the model, block by block."""

    blocks: tuple[BlockSignals, ...]

    def not_finite(self) -> tuple[str, ...]:
        """Names of the blocks that a NaN or an infinity came out of."""
        return tuple(
            block.piece
            for block in self.blocks
            if not all(map(math.isfinite, (*block.relative_change, *block.entropy)))
        )


@dataclass(frozen=True)
class Averages:
    """One number per signal, over all blocks, layers, samples and forwards of a probe; None where there is none.

    Kurtosis is a median, as single layers with outliers would hide the others; the rest are means.
    """

    entropy: float | None = None
    kurtosis: float | None = None
    relative_change: float | None = None


def averages(signals: Sequence[Signals]) -> Averages:
    """What a probe comes down to; values that are not finite are left out."""
    blocks = [block for forward in signals for block in forward.blocks]
    entropies = _finite(value for block in blocks for value in block.entropy)
    kurtoses = _finite(value for block in blocks for values in block.kurtosis.values() for value in values)
    changes = _finite(value for block in blocks for value in block.relative_change)
    return Averages(
        entropy=fmean(entropies) if entropies else None,
        kurtosis=median(kurtoses) if kurtoses else None,
        relative_change=fmean(changes) if changes else None,
    )


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def read(piece: str, readings: Iterable[tuple[str, str, torch.Tensor]]) -> BlockSignals:
    """Turn one block's readings, each a kind, a layer and a ``(batch, values)`` tensor, into its signals."""
    entropy: tuple[float, ...] = ()
    change: tuple[float, ...] = ()
    kurtosis: dict[str, tuple[float, ...]] = {}
    skewness: dict[str, tuple[float, ...]] = {}
    for kind, layer, values in readings:
        columns = [tuple(column) for column in values.float().t().tolist()]
        if kind == "attention":
            entropy = entropy or columns[0]
        elif kind == "activation":
            kurtosis[layer], skewness[layer] = columns
        elif kind == "change":
            change = columns[0]
        else:
            raise ValueError(f"unknown kind of reading {kind!r}")
    return BlockSignals(piece, entropy, kurtosis, skewness, change)

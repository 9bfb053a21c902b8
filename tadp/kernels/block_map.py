"""Block maps: which blocks of keys each block of queries sees in block-sparse attention, and a rule that chooses them.

Tokens are cut into blocks in their order: keys by 64, queries by 64 or 128. A map is boolean, ``(batch, heads, query
blocks, key blocks)``. The rule is that of SpargeAttn (arXiv 2502.18137, section 3.3) and SLA (arXiv 2509.24006,
section 4.1): queries and keys are averaged over their blocks, and the softmax of these averages' products guesses how
much of its weight a block of queries gives to each block of keys. Both take the mean of all keys out first, for the
sake of their codes; here that would change nothing, as it moves all scores of a query alike, which softmax ignores.

A guess is good where tokens of a block are alike, as neighbours of one frame mostly are.
"""

import functools
import math

import torch
from torch.nn import functional

KEY_BLOCK = 64
"""Keys of a block."""

QUERY_BLOCKS = (64, 128)
"""Queries that a row of a map may speak for; the map's shape says which."""


def query_block_on(device: str) -> int:
    """Queries that a row of a map speaks for on a device type: those of a tile of its kernels."""
    return 64 if device == "cpu" else 128


def blocks_of(tokens: int, size: int) -> int:
    """How many blocks of ``size`` tokens there are; the last may be smaller."""
    return -(-tokens // size)


def map_shape(q: torch.Tensor, k: torch.Tensor, query_block: int) -> tuple[int, int, int, int]:
    """The shape of a map for q ``(batch, heads, queries, dim)`` and k ``(batch, heads, keys, dim)``."""
    return (q.shape[0], q.shape[1], blocks_of(q.shape[2], query_block), blocks_of(k.shape[2], KEY_BLOCK))


def queries_of_row(queries: int, block_map: torch.Tensor) -> int:
    """The queries that a row of a map speaks for: 64 or 128."""
    return next(size for size in QUERY_BLOCKS if blocks_of(queries, size) == block_map.shape[2])


def choose_blocks(
    q: torch.Tensor,
    k: torch.Tensor,
    share: float = 0.0,
    mass: float = 0.0,
    scale: float | None = None,
    query_block: int = 64,
    diagonal: bool = True,
    first: int = 0,
    last: int = 0,
) -> torch.Tensor:
    """The blocks with the largest guessed weights of each block of queries.

    A block of queries keeps as many blocks as ``share`` and ``mass`` ask for, whichever is more, and one at least. The
    pinned ones count among them; where there are more pins than that, all pins are kept.

    Args:
        q: ``(batch, heads, queries, dim)``, floating.
        k: ``(batch, heads, keys, dim)``.
        share: of the key blocks, from 0 to 1: as many for every block of queries.
        mass: of the guessed weights, from 0 to 1: as many blocks as it takes, so that sharp rows keep few and flat ones
            many.
        scale: factor of the scores, 1 / sqrt(dim) where None.
        query_block: queries of a block, 64 or 128.
        diagonal: pins the blocks of keys that have the numbers of the queries' own tokens.
        first: how many of the first key blocks are pinned, such as those of a first frame or of text.
        last: the same of the last.

    Returns:
        ``(batch, heads, query blocks, key blocks)``, boolean, at least one True in each row.

    Raises:
        RuntimeError: for tensors that do not fit each other, and for shares and blocks that are not as above.
    """
    check_block_map(q, k, share, mass, query_block)
    scores = pool(q, query_block) @ pool(k, KEY_BLOCK).transpose(-1, -2)
    scores = scores * (q.shape[-1] ** -0.5 if scale is None else scale)
    count, rest = scores.shape[-1], k.shape[2] % KEY_BLOCK
    if rest:  # the last block has fewer keys to weigh
        scores[..., -1] += math.log(rest / KEY_BLOCK)
    plain = type(q) is torch.Tensor and q.device.type == "cpu"
    pinned = (_kept_pins if plain else pins)(scores.shape[-2], count, query_block, diagonal, first, last, q.device)
    if mass > 0.0:
        return _most_of(scores.softmax(-1), pinned, mass, share)
    kept = scores.masked_fill_(pinned, torch.inf).topk(blocks_kept(share, count), -1, sorted=False).indices
    return pinned.expand(scores.shape).scatter(-1, kept, True)


def check_block_map(q: torch.Tensor, k: torch.Tensor, share: float, mass: float, query_block: int) -> None:
    """Arguments that a map can be chosen for.

    Raises:
        RuntimeError: for any others.
    """
    torch._check(
        q.dim() == 4 and k.dim() == 4 and q.shape[:2] == k.shape[:2] and q.shape[3] == k.shape[3] and k.shape[2] > 0,
        lambda: f"tadp: q of {tuple(q.shape)} does not fit k of {tuple(k.shape)}",
    )
    torch._check(
        0.0 <= share <= 1.0 and 0.0 <= mass <= 1.0,
        lambda: f"tadp: share and mass are from 0 to 1, got {share} and {mass}",
    )
    torch._check(query_block in QUERY_BLOCKS, lambda: f"tadp: blocks are of 64 or 128 queries, not {query_block}")


def blocks_kept(share: float, blocks: int) -> int:
    """How many of so many blocks a share stands for, rounded half up: at least one, at most all."""
    return min(max(int(share * blocks + 0.5), 1), blocks)


def pool(x: torch.Tensor, size: int) -> torch.Tensor:
    """Means over blocks of tokens, of which the last may be smaller.

    Args:
        x: ``(batch, heads, tokens, dim)``, floating.
        size: tokens of a block.

    Returns:
        ``(batch, heads, blocks, dim)``, float32.
    """
    whole = x.shape[2] // size
    means = x[:, :, : whole * size].unflatten(2, (whole, size)).mean(3, dtype=torch.float32)
    if x.shape[2] == whole * size:
        return means
    return torch.cat([means, x[:, :, whole * size :].mean(2, keepdim=True, dtype=torch.float32)], 2)


def pins(
    query_blocks: int, key_blocks: int, query_block: int, diagonal: bool, first: int, last: int, device: torch.device
) -> torch.Tensor:
    """The pinned blocks, ``(query blocks, key blocks)``, boolean."""
    row = torch.arange(query_blocks, device=device)[:, None]
    column = torch.arange(key_blocks, device=device)[None, :]
    pinned = (column < first) | (column >= key_blocks - last)
    if not diagonal:
        return pinned.expand(query_blocks, key_blocks)
    return pinned | (column * KEY_BLOCK // query_block == row)


# Pins are the same in every step. Tensors of tracers and of graphs of a GPU's calls must not outlive them.
_kept_pins = functools.lru_cache(maxsize=64)(pins)


def _most_of(weights: torch.Tensor, pinned: torch.Tensor, mass: float, share: float) -> torch.Tensor:
    """Pins, and then the largest weights until they and the pins' make up the mass, and no fewer than the share's."""
    order = weights.masked_fill(pinned, torch.inf).argsort(-1, descending=True)
    sorted_weights = weights.gather(-1, order)
    before = functional.pad(sorted_weights.cumsum(-1), (1, -1))
    wanted = before < mass
    wanted[..., : blocks_kept(share, weights.shape[-1])] = True
    return pinned | torch.zeros_like(wanted).scatter(-1, order, wanted)

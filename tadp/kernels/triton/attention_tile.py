"""Which kernels of attention there are on GPUs: types of operands, tiles, their names, and the rule that picks one.

Nothing here imports triton, so that names can be read and written anywhere; tile.py does the same for linear layers.
"""

import re
from dataclasses import dataclass, replace

from tadp.kernels.block_map import KEY_BLOCK
from tadp.kernels.triton.tile import shared_limit

OPERANDS = ("int8_float16", "int8_float8", "float8_float8")
"""Types of the operands of the two products, q·k and p·v.

16 bits are those of the inputs, bfloat16 where these are float32.
"""

FIRST_WITH_FLOAT8 = (8, 9)
"""Ada brought products of e4m3."""

_SHARED_WANTED = 0.9
"""Part of the shared memory that loads may take; the rest is for scales and for what changes hands between threads."""

_NAME = re.compile(r"triton-(\w+)-(\d+)x(\d+)-w(\d+)-s(\d+)")


@dataclass(frozen=True)
class AttentionTile:
    """What one program computes, and with what.

    Attributes:
        operands: one of ``OPERANDS``.
        queries: queries of a program.
        keys: keys that a step of its loop reads.
        warps: warps of 32 threads.
        stages: steps whose memory reads are under way at a time.
    """

    operands: str
    queries: int
    keys: int
    warps: int
    stages: int

    def __str__(self) -> str:
        """The kernel's name, such as ``triton-int8_float8-128x64-w8-s3``."""
        return f"triton-{self.operands}-{self.queries}x{self.keys}-w{self.warps}-s{self.stages}"

    @classmethod
    def parse(cls, name: str) -> "AttentionTile":
        """The tile of that name.

        Raises:
            ValueError: if no kernel can have that name.
        """
        match = _NAME.fullmatch(name)
        if match is None or match[1] not in OPERANDS:
            raise ValueError(
                f"no kernel of attention is called {name!r}; names are like {cls(OPERANDS[0], 128, 64, 8, 3)}, "
                f"with {', '.join(OPERANDS)}"
            )
        tile = cls(match[1], *map(int, match.groups()[1:]))
        sizes_fit = all(
            low <= size <= high and size & (size - 1) == 0
            for size, low, high in ((tile.queries, 16, 256), (tile.keys, 32, 128), (tile.warps, 1, 8))
        )
        if not sizes_fit or not 1 <= tile.stages <= 8 or str(tile) != name:
            raise ValueError(
                f"no kernel of attention is called {name!r}: queries are powers of two from 16 to 256, keys from 32 to "
                "128, warps from 1 to 8; stages 1 to 8"
            )
        return tile

    def shared_bytes(self, dim: int) -> int:
        """Shared memory that queries, keys and values take, for heads of ``dim``, a power of two."""
        values = 2 if self.operands.endswith("float16") else 1
        return dim * (self.queries + self.stages * self.keys * (1 + values))

    def fits_map(self, row_queries: int) -> bool:
        """Whether it owns queries of one row of a map of blocks, and reads one block at a time or a part of it."""
        return self.queries <= row_queries and self.keys <= KEY_BLOCK

    def check_fits(self, capability: tuple[int, int]) -> None:
        """That GPUs of a compute capability have the products of this kernel.

        Raises:
            ValueError: if they have not.
        """
        if "float8" in self.operands and capability < FIRST_WITH_FLOAT8:
            raise ValueError(f"{self}: products of float8 need compute capability 8.9 or later")


def padded_dim(dim: int) -> int:
    """The power of two that a head's dimension is padded to with zeros, since Triton has blocks of no other size."""
    return max(32, 1 << (dim - 1).bit_length())


def operands_for(capability: tuple[int, int]) -> str:
    """The types of operands for a GPU: those that take least time by its peak rates.

    Up to compute capability 8.7 there are no products of float8. Triton 3.7 has Blackwell's own instruction (10.x) for
    float8 only, and int8 takes the path of Ampere there. On all others int8 is at least as fast as float8, and
    more precise.
    """
    if capability < FIRST_WITH_FLOAT8:
        return "int8_float16"
    return "float8_float8" if capability[0] == 10 else "int8_float8"


def attention_tile_for(
    queries: int,
    dim: int,
    capability: tuple[int, int],
    operands: str = "",
    *,
    masked: bool = False,
    row_queries: int | None = None,
) -> AttentionTile:
    """The tile for attention: a rule, not a search, so that nothing is timed while sampling.

    Args:
        queries: queries of a head.
        dim: dimension of a head.
        capability: compute capability of the GPU.
        operands: one of ``OPERANDS``; empty for that of ``operands_for``.
        masked: whether there is a mask that differs between queries.
        row_queries: of sparse attention, the queries that a row of its map speaks for.

    Raises:
        ValueError: for types that the GPU has no products of.
    """
    operands = operands or operands_for(capability)
    padded = padded_dim(dim)
    # Scores of a tile and sums of values share the registers: 128 queries by 64 keys and dims of 128 take half of them.
    tile = AttentionTile(operands, queries=128, keys=64, warps=4 if padded <= 64 else 8, stages=3)
    if capability[0] == 9 and padded <= 128:
        tile = replace(tile, keys=64 if masked else 128, warps=8)
    if padded > 128:  # sums of a row of 256 channels leave room for the scores of half as many queries
        tile = replace(tile, queries=64, warps=8, stages=2)
    elif queries <= 64:
        tile = replace(tile, queries=64, warps=4)
    elif masked:  # which takes registers too
        tile = replace(tile, warps=8)
    if row_queries is not None:
        tile = replace(tile, queries=min(tile.queries, row_queries), keys=min(tile.keys, KEY_BLOCK))
    while tile.shared_bytes(padded) > _SHARED_WANTED * shared_limit(capability):
        tile = replace(tile, stages=tile.stages - 1) if tile.stages > 2 else replace(tile, keys=tile.keys // 2)
    tile.check_fits(capability)
    return tile


def most_keys(dim: int) -> int:
    """Keys up to which places in a head's codes are 32-bit numbers."""
    return 2**31 // padded_dim(dim) - 128


def attention_kernels_for(
    queries: int, dim: int, capability: tuple[int, int], *, masked: bool = False, row_queries: int | None = None
) -> tuple[str, ...]:
    """Names of the kernels worth timing, of all types that the GPU has; ``attention_tile_for`` gives the first.

    Args:
        queries: queries of a head.
        dim: dimension of a head.
        capability: compute capability of the GPU.
        masked: as for ``attention_tile_for``.
        row_queries: the same.
    """
    first = operands_for(capability)
    all_operands = [first] + [operands for operands in OPERANDS if operands != first]
    if capability < FIRST_WITH_FLOAT8:
        all_operands = [first]
    tiles = []
    for operands in all_operands:
        rule = attention_tile_for(queries, dim, capability, operands, masked=masked, row_queries=row_queries)
        others = [AttentionTile(operands, *sizes) for sizes in _candidates(queries, dim)]
        tiles += [rule, *(tile for tile in others if row_queries is None or tile.fits_map(row_queries))]
    limit = _SHARED_WANTED * shared_limit(capability)
    return tuple(dict.fromkeys(str(tile) for tile in tiles if tile.shared_bytes(padded_dim(dim)) <= limit))


def _candidates(queries: int, dim: int) -> tuple[tuple[int, int, int, int], ...]:
    if padded_dim(dim) > 128:
        return (64, 32, 8, 2), (64, 64, 8, 3)
    if queries <= 64:
        return (64, 32, 4, 4), (64, 128, 4, 2)
    return (128, 64, 4, 3), (128, 64, 8, 3), (128, 64, 8, 4), (128, 128, 8, 2), (64, 64, 4, 3), (64, 128, 4, 2)

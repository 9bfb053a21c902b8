"""How the GPU products cut their work into programs: a tile, its name, and the rule that picks one.

Nothing here imports triton, so that a table of measured kernels can be read and written anywhere.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tadp.kernels.planes import padded_columns

_NAME = re.compile(r"triton-(tma-|deep-)?(\d+)x(\d+)x(\d+)-w(\d+)-s(\d+)(?:-k(\d+))?")

_LEAST_SHARED = 99 * 1024
"""Shared memory of a program, in bytes, on compute capability 8.6, 8.9 and 12.0, the least of those supported."""

_SHARED = {(8, 0): 163 * 1024, (8, 7): 163 * 1024, (9, 0): 227 * 1024, (10, 0): 227 * 1024, (10, 3): 227 * 1024}
"""Where there is more (CUDA C++ programming guide, "Technical specifications per compute capability")."""

WARP_GROUPS = 9
"""Major compute capability whose tensor cores multiply for four warps at a time, integers too (``wgmma``).

They read activations from shared memory, and Triton waits for each of their products of integers.
"""

FIRST_WITH_DESCRIPTORS = (9, 0)
"""Hopper brought the unit that copies tensors in bulk."""

_TENSOR_MEMORY = 512
"""Columns of 128 accumulators that data-centre Blackwell (10.x) has for a multiprocessor's floating products."""

_PROGRAMS_WANTED = 256
"""Columns are split while fewer programs would run: one or two for each multiprocessor of the larger GPUs."""


@dataclass(frozen=True)
class Tile:
    """What one program computes, and with what.

    Attributes:
        rows: weight rows.
        tokens: tokens.
        bytes: bytes of a quarter that a step of the loop reads, which makes four times as many columns.
        warps: warps of 32 threads.
        stages: steps whose memory reads are under way at a time.
        splits: parts that the columns are cut into, each with programs of its own; a second kernel adds them up.
        descriptors: whether one program per multiprocessor goes from tile to tile and reads through tensor descriptors.
        deep: whether a step multiplies its four quarters at once, as one product of four times as many columns.
    """

    rows: int
    tokens: int
    bytes: int
    warps: int
    stages: int
    splits: int = 1
    descriptors: bool = False
    deep: bool = False

    def __str__(self) -> str:
        """The kernel's name, such as ``triton-128x128x32-w8-s3`` or ``triton-deep-64x16x64-w4-s4-k4``."""
        head = "triton-tma" if self.descriptors else "triton-deep" if self.deep else "triton"
        tail = f"-k{self.splits}" if self.splits > 1 else ""
        return f"{head}-{self.rows}x{self.tokens}x{self.bytes}-w{self.warps}-s{self.stages}{tail}"

    @classmethod
    def parse(cls, name: str) -> "Tile":
        """The tile of that name.

        Raises:
            ValueError: if no kernel can have that name.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"no kernel is called {name!r}; names are like {cls(128, 128, 32, 8, 3)}")
        descriptors, deep = match[1] == "tma-", match[1] == "deep-"
        rows, tokens, step, warps, stages = map(int, match.groups()[1:6])
        tile = cls(rows, tokens, step, warps, stages, int(match[7] or 1), descriptors, deep)
        sizes_fit = all(
            low <= size <= high and size & (size - 1) == 0
            for size, low, high in ((rows, 16, 256), (tokens, 16, 256), (step, 16, 128), (warps, 1, 16))
        )
        if not sizes_fit or not 1 <= stages <= 8 or tile.splits > 64 or str(tile) != name:
            raise ValueError(
                f"no kernel is called {name!r}: rows and tokens are powers of two from 16 to 256, bytes from 16 to "
                "128, warps from 1 to 16; stages 1 to 8; splits, left out where there is one, 2 to 64"
            )
        if descriptors and tile.splits > 1:
            raise ValueError(f"no kernel is called {name!r}: one that reads through descriptors splits no columns")
        return tile

    def shared_bytes(self, width: int, activations: int) -> int:
        """Shared memory that its stages take, for weights and activations of so many bits."""
        return self.stages * self.bytes * (self.rows * width // 2 + self.tokens * activations // 2)

    def held_bytes(self, width: int, capability: tuple[int, int]) -> int:
        """Shared memory that Triton takes for a product of codes: what goes through registers needs one stage less.

        That is planes everywhere, and codes of activations but where the tensor cores or descriptors want them there.
        """
        planes, codes = self.bytes * self.rows * width // 2, self.bytes * self.tokens * 4
        in_place = capability[0] == WARP_GROUPS or self.descriptors
        return max(self.stages - 1, 1) * (planes + codes) + (codes if in_place and self.stages > 1 else 0)

    def tensor_memory(self, activations: int) -> int:
        """Columns of tensor memory of a floating product: Triton gives each ``tl.dot`` of a step accumulators."""
        products = 12 if activations == 32 else 4
        return products * self.tokens * max(self.rows, 64) // 128

    def check_fits(self, columns: int, groups: int, activations: int) -> None:
        """That the kernel of this name can serve a weight.

        Raises:
            ValueError: if it cannot.
        """
        if self.deep and activations != 8:
            raise ValueError(f"{self}: only the product of codes joins the quarters of a step")
        if activations == 8 and self.bytes == 16 and not groups and not self.deep:
            raise ValueError(f"{self}: integer tensor cores multiply 32 columns at a time, so bytes must be 32 or more")
        if groups and self.bytes * groups * 4 != columns:
            raise ValueError(
                f"{self}: with groups of {columns // groups} columns, bytes must be {columns // groups // 4}"
            )
        if groups and activations == 8 and self.splits > 1:
            raise ValueError(
                f"{self}: a product with groups is not split, since it adds floating-point numbers in order"
            )
        if self.descriptors and (groups or activations != 8):
            raise ValueError(f"{self}: only the product of codes without groups reads through descriptors")
        if self.descriptors and columns % (4 * self.bytes):
            raise ValueError(f"{self}: columns must be a multiple of {4 * self.bytes}, got {columns}")


def tile_for(
    tokens: int,
    rows: int,
    columns: int,
    width: int,
    capability: tuple[int, int],
    *,
    activations: int = 8,
    groups: int = 0,
    mixed: bool = False,
) -> Tile:
    """The tile for a product: a rule, not a search, so that nothing is timed while sampling.

    Args:
        tokens: tokens.
        rows: weight rows.
        columns: weight columns.
        width: bits of the weight.
        capability: compute capability of the GPU.
        activations: bits of the activations: 8 for codes, 16 or 32 for floating types.
        groups: scales that share a row; 0 for one scale a row.
        mixed: whether rows have widths of their own, which kernels that split columns have not.

    Tiles for floating activations fit the shared memory that a program has on any GPU.
    """
    whole = activations == 8 and not groups and columns % 128 == 0
    if tokens <= 16:
        # Bound by reading weights: low tiles spread them over more programs, more stages keep more reads under way.
        tile = Tile(rows=64, tokens=16, bytes=64, warps=4, stages=4)
    elif activations == 32:  # three products a block take registers and, on Blackwell, tensor memory
        tile = Tile(rows=64, tokens=32, bytes=32, warps=4, stages=4)
    elif tokens <= 64:
        tile = Tile(rows=64, tokens=64, bytes=32, warps=4, stages=4)
    elif whole and capability[0] == WARP_GROUPS and rows > 128 and not mixed:
        # A higher tile asks the L2 cache for a quarter less, and while one of four groups of warps waits for its
        # product, three others unpack and multiply.
        tile = Tile(rows=256, tokens=128, bytes=32, warps=16, stages=4)
    elif whole:
        tile = Tile(rows=128, tokens=128, bytes=32, warps=8, stages=4)
    else:  # sums of a group and of all, wide activations, or masks leave room for half the tokens
        tile = Tile(rows=128, tokens=64, bytes=32, warps=8, stages=4)
    if groups:
        tile = replace(tile, bytes=columns // groups // 4)
        if activations == 8 and capability[0] == WARP_GROUPS and tokens > 64:
            tile = replace(tile, deep=True)  # two groups of warps, which the wait for each product leaves idle
    room = shared_limit(capability) if activations == 8 else _LEAST_SHARED
    longer = replace(tile, bytes=64)
    if whole and tile.tokens == 128 and columns % 256 == 0 and _in(room, longer, width, capability).stages >= 3:
        tile = longer  # half the waits and barriers, and runs of bytes that the L2 cache gives in one piece
    tile = _in(room, tile, width, capability, activations)
    if mixed or (groups and activations == 8):
        return tile
    return replace(tile, splits=_splits(tile, tokens, rows, columns))


def kernels_for(
    tokens: int,
    rows: int,
    columns: int,
    width: int,
    capability: tuple[int, int],
    *,
    activations: int = 8,
    groups: int = 0,
    mixed: bool = False,
) -> tuple[str, ...]:
    """Names of the kernels worth timing for a product, at most twelve; the first is that of ``tile_for``.

    Args:
        tokens: tokens.
        rows: weight rows.
        columns: weight columns.
        width: bits of the weight.
        capability: compute capability of the GPU.
        activations: as for ``tile_for``.
        groups: as for ``tile_for``.
        mixed: as for ``tile_for``; such kernels read nothing through descriptors either.
    """
    rule = tile_for(tokens, rows, columns, width, capability, activations=activations, groups=groups, mixed=mixed)
    if mixed:
        return (str(rule),)
    tiles = [rule]
    if rule.deep:
        tiles.append(replace(rule, deep=False))
    for tile in _candidates(tokens):
        if groups:
            tile = replace(tile, bytes=columns // groups // 4)
        tiles.append(tile)
        if tokens <= 64 and not (groups and activations == 8):
            tiles.append(replace(tile, splits=max(2, _splits(tile, tokens, rows, columns))))
    limit = shared_limit(capability)
    if capability >= FIRST_WITH_DESCRIPTORS and tokens > 64:
        bulk = Tile(128, 128, 32, 8, 4, descriptors=True)
        tiles[1:1] = [_in(limit, bulk, width, capability), Tile(128, 128, 64, 8, 2, descriptors=True)]
        if capability[0] == WARP_GROUPS:  # elsewhere it runs out of registers
            tiles.insert(3, Tile(128, 256, 32, 8, 3, descriptors=True))
    if tokens > 64 and not groups:
        high = Tile(256, 128, 32, 16, 4)
        tiles.insert(1, high)
        if capability[0] == WARP_GROUPS:
            tiles[2:2] = [replace(high, deep=True), Tile(128, 256, 32, 8, 4, deep=True)]
    serving = (tile for tile in tiles if _serves(tile, columns, activations, groups))
    fitting = (tile for tile in serving if _shared(tile, width, capability, activations) <= limit)
    if capability[0] == 10 and activations > 8:
        fitting = (tile for tile in fitting if tile.tensor_memory(activations) < _TENSOR_MEMORY)
    return tuple(dict.fromkeys(map(str, fitting)))[:12]


def shared_limit(capability: tuple[int, int]) -> int:
    """Shared memory of a program, in bytes, on GPUs of a compute capability."""
    return _SHARED.get(capability, _LEAST_SHARED)


def _in(room: int, tile: Tile, width: int, capability: tuple[int, int], activations: int = 8) -> Tile:
    """The tile with as many of its stages as there is room for."""
    while tile.stages > 1 and _shared(tile, width, capability, activations) > room:
        tile = replace(tile, stages=tile.stages - 1)
    return tile


def _shared(tile: Tile, width: int, capability: tuple[int, int], activations: int) -> int:
    return tile.held_bytes(width, capability) if activations == 8 else tile.shared_bytes(width, activations)


def _candidates(tokens: int) -> Iterator[Tile]:
    sizes: tuple[tuple[int, int, int, int, int], ...]
    if tokens <= 16:
        sizes = (64, 16, 64, 4, 4), (64, 16, 128, 4, 3), (64, 16, 32, 4, 6), (32, 16, 64, 2, 4), (128, 16, 64, 4, 3)
    elif tokens <= 64:
        sizes = (64, 64, 32, 4, 4), (64, 32, 64, 4, 3), (128, 64, 32, 4, 3), (64, 64, 64, 4, 2)
    else:
        sizes = (
            (128, 128, 32, 8, 3),
            (128, 128, 32, 8, 5),
            (128, 128, 64, 8, 2),
            (128, 64, 32, 4, 4),
            (128, 64, 64, 8, 3),
            (64, 128, 32, 4, 4),
            (64, 256, 32, 4, 3),
            (128, 128, 16, 8, 4),
        )
    return (Tile(*size) for size in sizes)


def _splits(tile: Tile, tokens: int, rows: int, columns: int) -> int:
    """Parts to cut the columns into, so that enough programs run and each still has a step for every stage."""
    programs = -(-rows // tile.rows) * -(-tokens // tile.tokens)
    steps = -(-padded_columns(columns) // (4 * tile.bytes))
    splits = 1
    while 2 * splits * programs <= _PROGRAMS_WANTED and 2 * splits * tile.stages <= steps and splits < 64:
        splits *= 2
    return splits


def _serves(tile: Tile, columns: int, activations: int, groups: int) -> bool:
    try:
        tile.check_fits(columns, groups, activations)
    except ValueError:
        return False
    return True

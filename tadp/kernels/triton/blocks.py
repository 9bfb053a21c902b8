"""What the GPU products do with memory and codes on their way to ``tl.dot``; called from kernels only."""

import triton
import triton.language as tl

TILES_PER_GROUP = 8
"""Token tiles that programs share while they run through all row tiles."""


@triton.jit
def tile_of(program, row_tiles, token_tiles, tiles_per_group: tl.constexpr):  # type: ignore[no-untyped-def]
    """Row tile and token tile of a program.

    Programs that run together take a few token tiles by several row tiles, and find both operands in the L2 cache.
    """
    group_size = tiles_per_group * row_tiles
    first_token_tile = program // group_size * tiles_per_group
    token_tiles_here = min(token_tiles - first_token_tile, tiles_per_group)
    token_tile = first_token_tile + program % group_size % token_tiles_here
    row_tile = program % group_size // token_tiles_here
    return row_tile, token_tile


@triton.jit
def split_of(split, quarter, splits: tl.constexpr, tile_bytes: tl.constexpr):  # type: ignore[no-untyped-def]
    """The bytes of a quarter, from and up to, that one of ``splits`` parts of the columns has."""
    if splits == 1:
        first, last = 0, quarter
    else:
        size = tl.cdiv(tl.cdiv(quarter, tile_bytes), splits) * tile_bytes
        first = split * size
        last = min(first + size, quarter)
    return first, last


@triton.jit
def load_planes(  # type: ignore[no-untyped-def]
    high,
    mid,
    low,
    row,
    byte,
    part,
    inside,
    quarter,
    width: tl.constexpr,
    span: tl.constexpr,
    masked: tl.constexpr,
    widths=None,
):
    """Blocks ``(rows, bytes)`` of planes: of ``high`` the even and the odd quarters, of ``mid`` and of ``low``.

    With ``span`` 2, a block of ``high`` holds the bytes of an even and of an odd quarter side by side, ``part`` says
    which, and the pairs of the odd one are moved to where those of the even one stand. ``widths`` ``(rows,)``, where
    rows have widths of their own: what a row does not have is not read and comes back as zero.
    """
    high_rows = high + row * (2 * quarter)
    if span == 1:
        even = _load_bytes(high_rows, byte, inside, masked)
        odd = _load_bytes(high_rows + quarter, byte, inside, masked)
    else:
        even = _load_bytes(high_rows, part * quarter + byte, inside, masked)
        odd = even
    pairs = even
    last_pairs = even
    if width >= 6:
        wanted = None if widths is None else widths >= 6
        pairs = _load_bytes(mid + row * quarter, byte, inside, masked, wanted)
    if width == 8:
        wanted = None if widths is None else widths == 8
        last_pairs = _load_bytes(low + row * quarter, byte, inside, masked, wanted)
    return even, odd, pairs, last_pairs


@triton.jit
def _load_bytes(plane_rows, byte, inside, masked: tl.constexpr, wanted=None):  # type: ignore[no-untyped-def]
    place = plane_rows[:, None] + byte[None, :]
    if wanted is not None:
        mask = (inside[None, :] & wanted[:, None]) if masked else wanted[:, None]
        found = tl.load(place, mask=mask, other=0)
    else:
        found = tl.load(place, mask=inside[None, :], other=0) if masked else tl.load(place)
    return found


@triton.jit
def load_activations(token_rows, column, inside, masked: tl.constexpr):  # type: ignore[no-untyped-def]
    """A block ``(columns, tokens)`` of activations."""
    place = token_rows[None, :] + column[:, None]
    return tl.load(place, mask=inside[:, None], other=0) if masked else tl.load(place)


@triton.jit
def align_pairs(pairs, part, ptx):  # type: ignore[no-untyped-def]
    """Pairs of a block of two quarters, moved to where those of the even one stand; bits above them are anything."""
    if ptx is not None:
        shift = tl.broadcast_to((2 * part).to(tl.uint8)[None, :], pairs.shape)
        pairs = tl.inline_asm_elementwise(
            "{ .reg .b32 shift; and.b32 shift, $2, 2; shr.u32 $0, $1, shift; }",
            "=r,r,r",
            [pairs, shift],
            tl.uint8,
            is_pure=True,
            pack=4,
        )
    else:
        pairs = pairs >> (2 * part).to(tl.uint8)[None, :]
    return pairs


@triton.jit
def four_quarters(even, odd, pairs, last_pairs, width: tl.constexpr, ptx: tl.constexpr):  # type: ignore[no-untyped-def]
    """Codes ``(rows, 4 * bytes)`` of a block ``(rows, bytes)`` of planes: its four quarters one after another."""
    ends = tl.join(
        unpack_codes(even, pairs, last_pairs, 0, width, ptx), unpack_codes(even, pairs, last_pairs, 2, width, ptx)
    )
    others = tl.join(
        unpack_codes(odd, pairs, last_pairs, 1, width, ptx), unpack_codes(odd, pairs, last_pairs, 3, width, ptx)
    )
    codes = tl.join(ends, others)  # (rows, bytes, 2, 2): the quarter's higher bit, then its lower one
    return codes.permute(0, 2, 3, 1).reshape(even.shape[0], 4 * even.shape[1])


@triton.jit
def unpack_codes(high, mid, low, quarter: tl.constexpr, width: tl.constexpr, ptx: tl.constexpr):  # type: ignore[no-untyped-def]
    """Codes of one quarter as int8; those of 8 bits fit only with 128 taken off, that is, with their top bit flipped.

    ``ptx`` is unpack.codes_ptx of each quarter. Where it is None, as in the interpreter, the same is said byte by byte.
    """
    if ptx is not None:
        if width == 8:
            codes = tl.inline_asm_elementwise(ptx[quarter], "=r,r,r,r", [high, mid, low], tl.int8, is_pure=True, pack=4)
        elif width == 6:
            codes = tl.inline_asm_elementwise(ptx[quarter], "=r,r,r", [high, mid], tl.int8, is_pure=True, pack=4)
        else:
            codes = tl.inline_asm_elementwise(ptx[quarter], "=r,r", [high], tl.int8, is_pure=True, pack=4)
    else:
        codes = _join(high, mid, low, quarter, width)
        if width == 8:
            codes = codes ^ 128
        codes = codes.to(tl.int8, bitcast=True)
    return codes


@triton.jit
def join_quarters(even, odd, pairs, last_pairs, width: tl.constexpr, ptx: tl.constexpr):  # type: ignore[no-untyped-def]
    """Codes ``(rows, 4 * bytes)`` of a block ``(rows, bytes)`` of planes, its four quarters side by side.

    On Hopper a thread holds the same places of all four, so that nothing moves.
    """
    first = unpack_codes(even, pairs, last_pairs, 0, width, ptx)
    second = unpack_codes(odd, pairs, last_pairs, 1, width, ptx)
    third = unpack_codes(even, pairs, last_pairs, 2, width, ptx)
    fourth = unpack_codes(odd, pairs, last_pairs, 3, width, ptx)
    codes = tl.join(tl.join(first, third), tl.join(second, fourth))  # (rows, bytes, half, quarter of it)
    return codes.permute(0, 2, 3, 1).reshape(even.shape[0], 4 * even.shape[1])


@triton.jit
def unpack_values(  # type: ignore[no-untyped-def]
    high, mid, low, quarter: tl.constexpr, width: tl.constexpr, ptx: tl.constexpr, zero, unit, type: tl.constexpr
):
    """Codes of one quarter less ``zero``, times ``unit``, in a floating type of 16 bits, exactly.

    ``ptx`` is unpack.values_ptx of each quarter. Where it is None, as in the interpreter, the values are float32.
    """
    if ptx is not None:
        if width == 8:
            values = tl.inline_asm_elementwise(
                ptx[quarter], "=r,=r,r,r,r", [high, mid, low], tl.int16, is_pure=True, pack=4
            )
        elif width == 6:
            values = tl.inline_asm_elementwise(ptx[quarter], "=r,=r,r,r", [high, mid], tl.int16, is_pure=True, pack=4)
        else:
            values = tl.inline_asm_elementwise(ptx[quarter], "=r,=r,r", [high], tl.int16, is_pure=True, pack=4)
        values = values.to(type, bitcast=True)
    else:
        values = (_join(high, mid, low, quarter, width).to(tl.float32) - zero) * unit
    return values


@triton.jit
def _join(high, mid, low, quarter: tl.constexpr, width: tl.constexpr):  # type: ignore[no-untyped-def]
    codes = (high >> (quarter // 2 * 4)) & 15
    if width >= 6:
        codes = (codes << 2) | ((mid >> (2 * quarter)) & 3)
    if width == 8:
        codes = (codes << 2) | ((low >> (2 * quarter)) & 3)
    return codes

"""PTX that puts codes together from planes, four at a time.

Byte by byte, as Triton compiles it, four codes take some thirty instructions, more than the tensor cores leave time
for. A 32-bit register holds four bytes of a plane, and shifts treat them alike as long as a mask then drops what they
carried across a byte's border.
"""

import functools
from typing import NamedTuple


class Field(NamedTuple):
    """The bits of a code that come from one plane.

    Attributes:
        plane: 0 for high, 1 for mid, 2 for low.
        shift: how far the plane's byte moves left; to the right where negative.
        mask: which bits of the code it gives.
    """

    plane: int
    shift: int
    mask: int


def fields(width: int, quarter: int) -> tuple[Field, ...]:
    """Where the bytes of the planes hold the codes of a quarter; of ``high``, the byte that this quarter stands in."""
    nibble = Field(0, width - 4 - 4 * (quarter // 2), 15 << (width - 4))
    pairs = []
    for plane in range(1, (width - 4) // 2 + 1):
        place = width - 4 - 2 * plane
        pairs.append(Field(plane, place - 2 * quarter, 3 << place))
    return (nibble, *pairs)


@functools.cache
def unpack_ptx(width: int, quarter: int) -> str:
    """PTX that sets ``$0`` to four codes from the words ``$1`` of high, ``$2`` of mid and ``$3`` of low.

    Codes of 8 bits come out with their top bit flipped, which is u - 128 as int8.
    """
    lines = [".reg .b32 code, part;", f"mov.b32 code, {_word(128 if width == 8 else 0)};"]
    for field in fields(width, quarter):
        move = "shl.b32" if field.shift >= 0 else "shr.u32"
        lines += [
            f"{move} part, ${field.plane + 1}, {abs(field.shift)};",
            f"and.b32 part, part, {_word(field.mask)};",
            "xor.b32 code, code, part;",
        ]
    return "\n".join(["{", *lines, "mov.b32 $0, code;", "}"])


def _word(byte: int) -> str:
    return f"{byte * 0x01010101:#010x}"

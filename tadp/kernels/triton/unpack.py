"""PTX that puts codes together from planes, four at a time, as integers or as floating values.

Byte by byte, as Triton compiles it, four codes take some thirty instructions, more than the tensor cores leave time
for. A 32-bit register holds four bytes of a plane, and shifts treat them alike as long as a mask then drops what they
carried across a byte's border.
"""

import functools
from typing import NamedTuple

import torch

from tadp.kernels.formats import CODE_BITS, FORMATS, PLANE_BITS

FLIP = 128
"""What whole codes are short of as int8: their top bit is flipped."""


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
    found, place = [], width
    for index, plane in enumerate(FORMATS[width].planes):
        bits = PLANE_BITS[plane]
        place -= bits
        parts = CODE_BITS // bits  # of a byte; where they are two, the odd quarters stand in bytes of their own
        found.append(Field(index, place - bits * (quarter * parts // 4), (2**bits - 1) << place))
    return tuple(found)


class Values(NamedTuple):
    """How codes are turned into 16-bit floating values: ``(u_b - zero) * unit``, each of them exact.

    Attributes:
        zero: what is taken off a code.
        unit: a power of two.
        offset: what is still to be taken off after that, in codes; it would make some values inexact.
        factor: what undoes ``unit`` and makes codes of ``width`` bits steps of eight-bit codes: 2^(8-b) / unit.
    """

    zero: float
    unit: float
    offset: float
    factor: float


_UNIT = {"bf16": 2.0**-6, "fp16": 2.0**-9}
"""The smallest positive number of a type times the largest power of two it has."""


def values(width: int, type: str) -> Values:
    """How codes of ``width`` bits become values of ``type``, "bf16" or "fp16".

    bfloat16 has eight significant bits. Codes of 8 bits less 134 fit them, and so do 32 times codes of 4 bits less 253.
    Of the 64 values of 6 bits, 8 u - 265, two do not, so an eighth is left as the offset. float16 has eleven bits.
    """
    step = 2.0 ** FORMATS[width].shift
    zero = FORMATS[width].zero_point / step
    offset = zero % 1 if (width, type) == (6, "bf16") else 0.0
    return Values(zero - offset, _UNIT[type], offset, step / _UNIT[type])


@functools.cache
def codes_ptx(width: int, quarter: int) -> str:
    """PTX that sets ``$0`` to four codes from the words ``$1`` of high, ``$2`` of mid and ``$3`` of low.

    Codes of 8 bits come out with their top bit flipped, which is u - 128 as int8.
    """
    lines = _codes(width, quarter, first_plane=1, flip=FLIP if width == CODE_BITS else 0)
    return _block([*lines, "mov.b32 $0, code;"])


@functools.cache
def values_ptx(width: int, quarter: int, type: str) -> str:
    """PTX that sets ``$0`` and ``$1`` to four values of ``type`` from the words ``$2`` of high, ``$3`` and ``$4``.

    The bits of a small integer n, read as a floating number, are n times the smallest positive one, whether that is
    subnormal or, from 128 on in bfloat16, just no longer. One multiply-add of two numbers at a time, rounded once and
    here not at all, brings them to scale and takes the zero point off; both types' multiply-adds keep subnormals.
    """
    found = values(width, type)
    scale = _half({"bf16": 2.0**127, "fp16": 2.0**15}[type], type)
    zero = _half(-found.zero * found.unit, type)
    lines = _codes(width, quarter, first_plane=2, flip=0)
    lines += [".reg .b32 pair, scale, zero;", f"mov.b32 scale, {scale};", f"mov.b32 zero, {zero};"]
    for index, bytes_of_code in enumerate(("0x4140", "0x4342")):  # 4 stands for a byte of the second operand, zero
        lines += [
            f"prmt.b32 pair, code, 0, {bytes_of_code};",
            f"fma.rn.{type.replace('p', '')}x2 ${index}, pair, scale, zero;",
        ]
    return _block(lines)


def _codes(width: int, quarter: int, first_plane: int, flip: int) -> list[str]:
    lines = [".reg .b32 code, part;", f"mov.b32 code, {_word(flip)};"]
    for field in fields(width, quarter):
        move = "shl.b32" if field.shift >= 0 else "shr.u32"
        lines += [
            f"{move} part, ${first_plane + field.plane}, {abs(field.shift)};",
            f"and.b32 part, part, {_word(field.mask)};",
            "xor.b32 code, code, part;",
        ]
    return lines


def _block(lines: list[str]) -> str:
    return "\n".join(["{", *lines, "}"])


def _word(byte: int) -> str:
    return f"{byte * 0x01010101:#010x}"


def _half(value: float, type: str) -> str:
    """Two equal numbers of 16 bits as one word."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[type]
    bits = int(torch.tensor(value, dtype=torch.float64).to(dtype).view(torch.int16)) & 0xFFFF
    return f"{bits * 0x00010001:#010x}"

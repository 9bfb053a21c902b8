"""How fast could integer products be, if their instructions had nothing to wait for?

The instructions of an instruction set's product, at 8, 6 or 4 bits, are timed on registers only. That is the floor of a
kernel's time: it also has to load, to store, to unpack weights and to finish sums. Needs a C++ compiler.
"""

import ctypes
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from bench.record import parser, record
from tadp.interleaving import timed
from tadp.kernels.formats import WIDTHS
from tadp.kernels.isa import NAMES, is_available

MULTIPLY_ADDS = {"avx2_8": 12 * 16, "avx2_6": 8 * 64, "avx2_4": 12 * 8 * 32, "avxvnni": 12 * 32, "avx512vnni": 12 * 64}
"""Of one round of each function in instruction_floor.cpp."""

ROUNDS, REPEATS = 5_000, 50
"""A repeat takes under a millisecond, so that the shortest one is undisturbed even on a busy machine."""

_SOURCE = Path(__file__).with_suffix(".cpp")


def main() -> None:
    """Print the floor of every instruction set that the processor has."""
    chosen = parser(__doc__).parse_args()
    rows = [
        {"instruction set": name, **{f"{width} bits, GOP/s": rate / 1e9 for width, rate in rates(name).items()}}
        for name in NAMES
        if is_available(name) and rates(name)
    ]
    record("instruction_floor: operations a second of one core, on registers only", rows, chosen.json)


@cache
def rates(isa: str) -> dict[int, float]:
    """Operations a second of one core by width, a product and its sum counted as two.

    Empty for instruction sets without a floor, which is portable C++, and where there is no compiler.
    """
    functions = {width: name for width in WIDTHS if (name := function_of(isa, width)) in MULTIPLY_ADDS}
    compiler = shutil.which("c++")
    if not functions or compiler is None or platform.machine() != "x86_64":
        return {}
    library = _compiled(compiler)
    measured = {name: _rate(library[name], MULTIPLY_ADDS[name]) for name in set(functions.values())}
    return {width: measured[name] for width, name in functions.items()}


def function_of(isa: str, width: int) -> str:
    """The function that has the instructions of a set at a width: products of bytes are alike at all widths."""
    return f"{isa}_{width}" if isa == "avx2" else isa


def _compiled(compiler: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "instruction_floor.so"
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", str(_SOURCE), "-o", str(library)], check=True)
        return ctypes.CDLL(str(library))  # stays loaded after its file is gone


def _rate(function: Callable[[ctypes.c_long], object], multiply_adds: int) -> float:
    call = partial(function, ctypes.c_long(ROUNDS))
    call()
    return 2 * multiply_adds * ROUNDS / min(timed(call) for _ in range(REPEATS))


if __name__ == "__main__":
    main()

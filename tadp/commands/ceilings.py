"""`tadp bench --explain`: what limits the product of codes on GPUs that need not be there, by arithmetic alone."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from tadp.commands.errors import InputError
from tadp.kernels.devices import linear_sizes
from tadp.kernels.formats import WIDTHS
from tadp.kernels.gpus import GPUS, Gpu, gpu_called
from tadp.kernels.registry import Request
from tadp.kernels.roofline import Product
from tadp.kernels.triton import missing
from tadp.kernels.triton.tile import Tile
from tadp.precision import Level
from tadp.report.console import console
from tadp.report.console import table as plain_table

if TYPE_CHECKING:
    from rich.table import Table

    from tadp.kernels.triton.compiled import Compiled

TOKENS = 32760
"""Of a clip of 81 frames at 480p."""

MODELS = {"Wan-1.3B": (1536, 8960), "Wan-14B": (5120, 13824)}
"""Width, and inner width of the feed-forward layers."""


@dataclass(frozen=True)
class Row:
    """One layer at one width on one GPU, and what the compilers made of its kernel, if they were asked."""

    model: str
    product: Product
    compiled: "Compiled | None" = None

    @property
    def nonlinearity(self) -> str:
        """What follows the layer: in Wan a GELU follows the one that widens."""
        return "gelu_tanh" if self.product.rows > self.product.columns else "none"


def explain_ceilings(gpus: Sequence[str], compiled: bool, as_json: bool) -> int:
    """Print which share of the int8 rate each resource allows, for the layers of Wan2.1 and the tile that runs there.

    Args:
        gpus: names of GPUs of tadp.kernels.gpus; none for all.
        compiled: also compile each kernel for its GPU, and look at registers, waits and operands.
        as_json: print rows as JSON instead of as tables.

    Returns:
        The exit code.

    Raises:
        InputError: for a GPU that is not in the table, or if kernels are to be compiled and Triton is missing.
    """
    if compiled and (reason := missing()):
        raise InputError(f"--compile: {reason}")
    found = list(rows(gpus))
    if compiled:
        found = _compiled(found)
    if as_json:
        print(json.dumps([_to_json(row) for row in found], indent=1))
        return 0
    output = console(least=150)
    for gpu in dict.fromkeys(row.product.gpu for row in found):
        here = [row for row in found if row.product.gpu == gpu]
        output.print(_ceilings(gpu, here))
        if compiled:
            output.print(_machine_code(gpu, here))
    return 0


def rows(gpus: Sequence[str]) -> Iterator[Row]:
    """Every layer of the models at every width, with the tile of the rule.

    Raises:
        InputError: for a GPU that is not in the table.
    """
    try:
        wanted = [gpu_called(name) for name in gpus] or GPUS
    except ValueError as error:
        raise InputError(f"--gpu: {error}") from error
    for gpu in wanted:
        for model, (size, inner) in MODELS.items():
            for columns, out in ((size, size), (size, inner), (inner, size)):
                for width in WIDTHS:
                    tile = Tile.parse(linear_sizes(_request(gpu, width, out, columns))[0])
                    yield Row(model, Product(gpu, tile, width, TOKENS, out, columns))


def _request(gpu: Gpu, width: int, out: int, columns: int) -> Request:
    return Request(Level(width, 8), TOKENS, columns, out, 0, torch.bfloat16, "cuda", gpu.architecture)


def _compiled(found: Sequence[Row]) -> list[Row]:
    """The rows with machine code. Sizes do not tell kernels apart, since all of these are multiples of 16."""
    kernels = {_kernel_of(row): row for row in reversed(found)}
    looked_at = {key: _look_at(row) for key, row in tqdm(kernels.items(), desc="compiling", unit="kernel", leave=False)}
    return [replace(row, compiled=looked_at[_kernel_of(row)]) for row in found]


def _kernel_of(row: Row) -> tuple[str, str, int, str]:
    return row.product.gpu.architecture, str(row.product.tile), row.product.width, row.nonlinearity


def _look_at(row: Row) -> "Compiled":
    from tadp.kernels.triton.compiled import look_at

    made = row.product
    return look_at(_request(made.gpu, made.width, made.rows, made.columns), str(made.tile), row.nonlinearity)


def _registers(row: Row) -> int | None:
    return None if row.compiled is None else row.compiled.registers


def _ceilings(gpu: Gpu, found: Sequence[Row]) -> "Table":
    rate = 2e-3 * gpu.products * gpu.multiprocessors * gpu.clock
    title = (
        f"{gpu.name}: ceilings of the product of codes, % of {rate:.0f} TOP/s; its L2 cache gives "
        f"{gpu.cache_of_one:.1f} bytes a cycle and multiprocessor{' (an estimate)' if gpu.cache_is_estimated else ''}"
    )
    names = ("cache", "segments", "waits", "unpacking", "memory", "programs")
    printed = plain_table(title, "layer", "bits", "kernel", "at once", "bytes a cycle", *names, "limit")
    for row in found:
        made, shares = row.product, row.product.shares(_registers(row))
        printed.add_row(
            f"{row.model} {made.columns} -> {made.rows}",
            str(made.width),
            str(made.tile),
            str(made.programs(_registers(row))),
            f"{made.bytes_per_cycle:.0f}",
            *(f"{100 * getattr(shares, name):.0f}" for name in names),
            shares.limit,
        )
    return printed


def _machine_code(gpu: Gpu, found: Sequence[Row]) -> "Table":
    columns = (
        "kernel",
        "bits",
        "then",
        "registers",
        "spilled",
        "shared KB",
        "products",
        "waits",
        "weights from",
        "run",
    )
    printed = plain_table(f"{gpu.name}: as compiled for {gpu.architecture}; products and waits of a step", *columns)
    for row in {_kernel_of(row): row for row in found}.values():
        code, made = row.compiled, row.product
        assert code is not None
        printed.add_row(
            str(made.tile),
            str(made.width),
            row.nonlinearity,
            str(code.registers),
            f"{code.spilled}" + (f" ({code.spills_in_loop} in the loop)" if code.spills_in_loop else ""),
            f"{code.shared / 1024:.0f}",
            str(code.products),
            str(code.waits),
            "shared memory" if code.from_registers is False else "registers",
            str(made.run),
        )
    return printed


def _to_json(row: Row) -> dict[str, Any]:
    made, shares = row.product, row.product.shares(_registers(row))
    return {
        "gpu": made.gpu.name,
        "model": row.model,
        "tokens": made.tokens,
        "columns": made.columns,
        "rows": made.rows,
        "width": made.width,
        "kernel": str(made.tile),
        "programs_at_once": made.programs(_registers(row)),
        "cache_bytes_per_cycle": made.bytes_per_cycle,
        "run": made.run,
        "depth": made.depth,
        "shares": asdict(shares),
        "limit": shares.limit,
        "compiled": None if row.compiled is None else asdict(row.compiled),
    }

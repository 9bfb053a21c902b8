"""What Triton and ptxas made of the product of codes, for a GPU that need not be there."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import triton
from triton.compiler import CompiledKernel

from tadp.kernels.formats import PLANE_BITS
from tadp.kernels.planes import plane_shape
from tadp.kernels.registry import Request
from tadp.kernels.triton.ahead_of_time import compiling_for
from tadp.kernels.triton.launch import Launch
from tadp.kernels.triton.linear import constants_for, linear_kernel, options_for
from tadp.kernels.values import Codes, Planes


@dataclass(frozen=True)
class Compiled:
    """The product of codes as machine code.

    Attributes:
        registers: of a thread.
        spilled: bytes of a thread that find no register, anywhere in the kernel.
        spills_in_loop: instructions of the loop over columns that move such bytes.
        shared: bytes of shared memory of a program.
        instructions: of the loop over columns.
        products: tensor-core instructions of a warp, or group of four, in the loop.
        waits: how often the loop waits for products of warp groups; 0 where products are those of single warps.
        from_registers: whether products of warp groups take codes of weights from registers; those of single warps
            always do, which is None.
        neighbours: columns side by side, at least, in what a thread unpacks: bytes of one word, if four or more.
    """

    registers: int
    spilled: int
    spills_in_loop: int
    shared: int
    instructions: int
    products: int
    waits: int
    from_registers: bool | None
    neighbours: int


def look_at(request: Request, name: str, nonlinearity: str = "none", biased: bool = True) -> Compiled:
    """Compile a kernel for the architecture of a request, and look at what came out; as ``compile_linear``."""
    return inspect(compile_linear(request, name, nonlinearity, biased))


def compile_linear(request: Request, name: str, nonlinearity: str = "none", biased: bool = True) -> CompiledKernel:
    """The kernel of linear.py, compiled as a launch on the GPU would compile it.

    Args:
        request: a linear layer on codes.
        name: the kernel's; one that neither splits columns nor reads through descriptors.
        nonlinearity: what follows it.
        biased: whether it has a bias, of the type of its result.

    Raises:
        ValueError: for a kernel that cannot serve it.
    """
    codes, planes = operands(request)
    launch = Launch.of(codes.codes, planes, name)
    if launch.tile.splits > 1 or launch.tile.descriptors:
        raise ValueError(f"{name}: only kernels that neither split columns nor read through descriptors are looked at")
    bias = _empty(request.rows, dtype=request.dtype) if biased else None
    *weight, widths = planes
    out = _empty(request.tokens, request.rows, dtype=request.dtype)
    constants = constants_for(launch.tile, launch.width, launch.columns, launch.groups, nonlinearity)
    with compiling_for(request.architecture):
        return linear_kernel.warmup(
            *codes, *weight, bias, widths, out, *launch.sizes, grid=(1,), **constants, **options_for(launch.tile)
        )


def operands(request: Request) -> tuple[Codes, Planes]:
    """Activations and weight of a request, without memory."""
    tokens, rows, columns, groups = request.tokens, request.rows, request.columns, request.groups
    by_group = (groups,) if groups else ()
    codes = Codes(
        _empty(tokens, columns, dtype=torch.int8),
        _empty(tokens, dtype=torch.float32),
        _empty(tokens, *by_group, dtype=torch.int32),
    )
    high, mid, low = (_empty(*plane_shape(plane, rows, columns), dtype=torch.uint8) for plane in PLANE_BITS)
    widths = _empty(rows, dtype=torch.uint8) if request.level.mixed else None
    planes = Planes(high, mid, low, _empty(rows, *by_group, dtype=torch.float32), widths)
    return codes, planes.at(request.level.widest)


def inspect(kernel: CompiledKernel) -> Compiled:
    """What stands in the machine code, PTX and TTGIR of the product of codes."""
    usage, code = _disassembled(kernel.asm["cubin"])
    registers, stack = (int(number) for number in re.findall(r"(?:REG|STACK):(\d+)", usage)[:2])
    loop = _loop(code)
    ptx = kernel.asm["ptx"]
    by_groups = "wgmma.mma_async" in ptx
    return Compiled(
        registers=registers,
        spilled=stack,
        spills_in_loop=len(re.findall(r"\b(?:LDL|STL)\b", loop)),
        shared=kernel.metadata.shared,
        instructions=len(re.findall(r"/\*[0-9a-f]{4,}\*/ +\S", loop)),
        products=len(re.findall(r"\bI(?:G)?MMA\b", loop)),
        waits=len(re.findall(r"\bIGMMA\b[^;]*\bgsb0\b", loop)),
        from_registers=bool(re.search(r"wgmma\.mma_async\S+ \{[^}]*\}, \{", ptx)) if by_groups else None,
        neighbours=min(_neighbours(kernel.asm["ttgir"]), default=0),
    )


def _disassembled(cubin: bytes) -> tuple[str, str]:
    """Resources and instructions, as Triton's own copies of NVIDIA's tools print them."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "kernel.cubin"
        file.write_bytes(cubin)
        tools = (
            [triton.knobs.nvidia.cuobjdump.path, "-res-usage", str(file)],
            [triton.knobs.nvidia.nvdisasm.path, "-c", str(file)],
        )
        usage, code = (subprocess.run(tool, capture_output=True, text=True, check=True).stdout for tool in tools)
    return usage, code


def _loop(code: str) -> str:
    """The longest stretch of instructions with tensor-core products that ends in a branch to its beginning."""
    labels = {match[1]: match.start() for match in re.finditer(r"^(\.L_x_\d+):", code, re.MULTILINE)}
    branches = re.finditer(r"\bBRA\b[^;]*`\((\.L_x_\d+)\)", code)
    bodies = (code[labels[branch[1]] : branch.end()] for branch in branches if branch[1] in labels)
    return max((body for body in bodies if "MMA" in body), key=len, default="")


def _neighbours(ttgir: str) -> list[int]:
    """Columns side by side in a thread, of each result of inline assembly, which unpacks four bytes at a time."""
    layouts = dict(re.findall(r"^#(\w+) = (#ttg.*)$", ttgir, re.MULTILINE))
    found = re.findall(r"elementwise_inline_asm .*-> tensor<\d+x\d+x\w+, (#.*?)> loc", ttgir)
    return [_columns_together(layouts.get(layout.removeprefix("#"), layout)) for layout in found]


def _columns_together(layout: str) -> int:
    if width := re.search(r"kWidth = (\d+)", layout):  # an operand of the tensor cores
        return int(width[1])
    if size := re.search(r"sizePerThread = \[\d+, (\d+)\]", layout):
        return int(size[1])
    if bases := re.search(r"register = (\[\[.*?\]\])", layout):  # powers of two that registers move along rows, columns
        pairs = [(int(row), int(column)) for row, column in re.findall(r"\[(\d+), (\d+)\]", bases[1])]
        together = 1
        while (0, together) in pairs[: together.bit_length()]:
            together *= 2
        return together
    raise ValueError(f"no rule tells the columns of a thread in the layout {layout}")


def _empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")

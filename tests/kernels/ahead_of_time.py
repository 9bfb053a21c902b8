"""Kernels compiled for GPUs that need not be there, and what tests ask of the result."""

import re
from typing import Any

from triton import compile as compile_source
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, CompiledKernel

ARCHITECTURES = (80, 89, 90, 100, 120)

SHARED_KIB = {80: 163, 89: 99, 90: 227, 100: 227, 120: 99}
"""Shared memory of a program; 99 is what 8.6, 8.9 and 12.0 have, the least of all."""

_UNSPECIALIZED = ("tokens", "outputs", "queries", "keys", "chunks", "blocks")

_ANY_MMA = r"(?:wgmma\.mma_async|tcgen05\.mma|\bmma\.sync)\.\S+"

# Of these, Triton has the warp-group instruction for int8 on Hopper only. On data-centre Blackwell (100), whose own
# instruction it issues for floating types alone, int8 takes the same path as on Ampere.
INT8_MMA = {
    architecture: r"wgmma\.mma_async\.sync\.aligned\.m64n\d+k32\.s32\.s8\.s8"
    if architecture == 90
    else r"mma\.sync\.aligned\.m16n8k32\.row\.col\.satfinite\.s32\.s8\.s8\.s32"
    for architecture in ARCHITECTURES
}


def float_mma(architecture: int, type: str) -> str:
    """The instruction for floating products of 16-bit ``type``, "bf16" or "f16", added up in float32."""
    if architecture == 90:
        return rf"wgmma\.mma_async\.sync\.aligned\.m64n\d+k16\.f32\.{type}\.{type}"
    if architecture == 100:
        return r"tcgen05\.mma\.cta_group::1\.kind::f16"
    return rf"mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.{type}\.{type}\.f32"


def plane_types(width: int, kind: str = "*u8") -> dict[str, str | None]:
    return {"high": kind, "mid": kind if width >= 6 else None, "low": kind if width == 8 else None}


def compile_for(
    architecture: int,
    kernel: Any,
    tensors: dict[str, str | None],
    numbers: dict[str, int],
    constants: dict[str, Any],
    options: dict[str, Any],
) -> CompiledKernel:
    """Compile with the specializations that a launch with these numbers has: divisible by 16, or equal to 1.

    ``tensors`` maps names to types such as "*bf16", and to None where a tensor is absent.
    """
    absent = {name: None for name, kind in tensors.items() if kind is None}
    ones = {name: 1 for name, number in numbers.items() if number == 1 and name not in _UNSPECIALIZED}
    constants = {**constants, **absent, **ones}
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else tensors.get(name, "i32") for name in names}
    aligned = [
        name
        for name, kind in signature.items()
        if kind.startswith("*") or (kind == "i32" and name not in _UNSPECIALIZED and numbers[name] % 16 == 0)
    ]
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(kernel, signature, constants, attributes)
    return compile_source(source, target=GPUTarget("cuda", architecture, 32), options=options)


def check(
    kernel: CompiledKernel,
    product: str | None,
    log: str,
    shared_kib: int = min(SHARED_KIB.values()),
    spilled: int = 0,
) -> None:
    """That all tensor-core instructions are ``product``, and that shared memory suffices.

    Nothing spills, or up to ``spilled`` bytes of a thread; where in the kernel is in test_triton_compiled.py.
    """
    products = re.findall(_ANY_MMA, kernel.asm["ptx"])
    assert bool(products) == (product is not None)
    assert all(re.fullmatch(product or "", found) for found in products), set(products)
    found = re.findall(r"(\d+) bytes spill (?:stores|loads)", log)
    assert len(found) == 2, log
    assert max(map(int, found)) <= spilled, log
    assert kernel.metadata.shared <= shared_kib * 1024

"""The Triton kernel of linear, compiled ahead of time for GPUs that need not be there."""

import re
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="triton is not installed")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource, CompiledKernel  # noqa: E402

from tadp.kernels.triton.linear import constants_for, linear_kernel, options_for, tile_for  # noqa: E402
from tests.kernels.cases import WIDTHS  # noqa: E402

ARCHITECTURES = (80, 89, 90, 100, 120)
TOKENS = (1, 64, 4096)  # one for each tile

# Of these, Triton has the warp-group instruction for int8 on Hopper only. On data-centre Blackwell (100), whose own
# instruction it issues for floating types alone, int8 takes the same path as on Ampere.
INT8_MMA = {
    architecture: r"wgmma\.mma_async\.sync\.aligned\.m64n\d+k32\.s32\.s8\.s8"
    if architecture == 90
    else r"mma\.sync\.aligned\.m16n8k32\.row\.col\.satfinite\.s32\.s8\.s8\.s32"
    for architecture in ARCHITECTURES
}
ANY_MMA = r"(?:wgmma\.mma_async|tcgen05\.mma|\bmma\.sync)\.\S+"

SHARED_MEMORY = 99 * 1024  # of one program on 8.6, 8.9 and 12.0, the least of all architectures here


@pytest.fixture(autouse=True)
def _compile_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    monkeypatch.setattr(triton.knobs.nvidia, "dump_ptxas_log", True)


def compile_linear(
    architecture: int, width: int, tokens: int, rows: int, columns: int, dtype: str = "bf16", bias: str | None = "bf16"
) -> CompiledKernel:
    """Compile with the specializations that a launch with these numbers has: divisible by 16, or equal to 1."""
    tile = tile_for(tokens, width)
    types = {
        "codes": "*i8",
        "scale": "*fp32",
        "sum": "*i32",
        "high": "*u8",
        "mid": "*u8" if width >= 6 else None,
        "low": "*u8" if width == 8 else None,
        "weight_scale": "*fp32",
        "bias": bias and f"*{bias}",
        "out": f"*{dtype}",
    }
    numbers = {"tokens": tokens, "rows": rows, "columns": columns, "quarter": -(-columns // 4)}
    absent = {name: None for name, kind in types.items() if kind is None}
    ones = {name: 1 for name, number in numbers.items() if number == 1 and name != "tokens"}
    constants = {**constants_for(tile, width, columns), **absent, **ones}
    signature = {name: "constexpr" if name in constants else types.get(name, "i32") for name in linear_kernel.arg_names}
    aligned = [
        name
        for name in linear_kernel.arg_names
        if name not in constants and name != "tokens" and numbers.get(name, 0) % 16 == 0
    ]
    attributes = {(linear_kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(linear_kernel, signature, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options_for(tile))


def check(kernel: CompiledKernel, architecture: int, log: str) -> None:
    products = re.findall(ANY_MMA, kernel.asm["ptx"])
    assert products
    assert all(re.fullmatch(INT8_MMA[architecture], product) for product in products), set(products)
    spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", log)
    assert len(spilled) == 2, log
    assert set(spilled) == {"0"}, log
    assert kernel.metadata.shared <= SHARED_MEMORY


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("tokens", TOKENS)
def test_compiles_to_int8_products_without_spills(
    architecture: int, width: int, tokens: int, capfd: pytest.CaptureFixture[str]
) -> None:
    kernel = compile_linear(architecture, width, tokens, rows=1536, columns=1536)
    check(kernel, architecture, capfd.readouterr().out)
    ptx = kernel.asm["ptx"]
    assert "cp.async" in ptx  # memory is read ahead of the products
    assert re.search(r"cvt\.rn\.bf16(x2)?\.f32", ptx)
    assert not re.search(r"\bfma\.rn", ptx)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 4), (7, 5), (130, 259)])
def test_compiles_for_odd_shapes(width: int, rows: int, columns: int, capfd: pytest.CaptureFixture[str]) -> None:
    kernel = compile_linear(80, width, 1, rows, columns, dtype="fp16", bias=None)
    check(kernel, 80, capfd.readouterr().out)


@pytest.mark.parametrize("tokens", TOKENS)
def test_masks_bring_no_spills(tokens: int, capfd: pytest.CaptureFixture[str]) -> None:
    for architecture in ARCHITECTURES:
        kernel = compile_linear(architecture, 8, tokens, 1531, 1531, dtype="fp32", bias="fp32")
        check(kernel, architecture, capfd.readouterr().out)

"""The Triton kernels, compiled ahead of time for GPUs that need not be there."""

import re
from itertools import cycle
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="triton is not installed")

from triton.compiler import CompiledKernel  # noqa: E402

from tadp.kernels.triton.dequantize import dequantize_constants, dequantize_kernel, dequantize_options  # noqa: E402
from tadp.kernels.triton.library import unpack_constants, unpack_kernel  # noqa: E402
from tadp.kernels.triton.linear import constants_for, linear_kernel, options_for  # noqa: E402
from tadp.kernels.triton.persistent import persistent_constants, persistent_kernel, persistent_options  # noqa: E402
from tadp.kernels.triton.split import add_up_constants, add_up_kernel  # noqa: E402
from tadp.kernels.triton.tile import Tile, kernels_for, tile_for  # noqa: E402
from tadp.kernels.triton.weight_only import (  # noqa: E402
    weight_only_constants,
    weight_only_kernel,
    weight_only_options,
)
from tests.kernels.ahead_of_time import (  # noqa: E402
    ARCHITECTURES,
    INT8_MMA,
    SHARED_KIB,
    check,
    compile_for,
    float_mma,
    plane_types,
)
from tests.kernels.cases import WIDTHS  # noqa: E402

pytestmark = pytest.mark.aot

TOKENS = (1, 64, 4096)  # one for each tile


@pytest.fixture(autouse=True)
def _compile_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    monkeypatch.setattr(triton.knobs.nvidia, "dump_ptxas_log", True)


def compile_linear(
    architecture: int,
    width: int,
    tokens: int,
    rows: int,
    columns: int,
    dtype: str = "bf16",
    bias: str | None = "bf16",
    *,
    name: str = "",
    groups: int = 0,
    nonlinearity: str = "none",
    widths: str | None = None,
) -> CompiledKernel:
    tile = (
        Tile.parse(name)
        if name
        else tile_for(tokens, rows, columns, width, divmod(architecture, 10), groups=groups, mixed=widths is not None)
    )
    tensors = {
        "codes": "*i8",
        "scale": "*fp32",
        "sum": "*i32",
        **plane_types(width),
        "weight_scale": "*fp32",
        "bias": bias and f"*{bias}",
        "widths": widths,
        "out": "*i32" if tile.splits > 1 else f"*{dtype}",
    }
    numbers = {"tokens": tokens, "rows": rows, "columns": columns, "quarter": -(-columns // 4)}
    constants = constants_for(tile, width, columns, groups, nonlinearity)
    return compile_for(architecture, linear_kernel, tensors, numbers, constants, options_for(tile))


def compile_persistent(architecture: int, width: int, tile: Tile, nonlinearity: str) -> CompiledKernel:
    tensors = {
        "codes": f"tensordesc<i8[{tile.tokens}, {tile.bytes}]>",
        "scale": "*fp32",
        "sum": "*i32",
        **plane_types(width, f"tensordesc<u8[{tile.rows}, {tile.bytes}]>"),
        "weight_scale": "*fp32",
        "bias": "*bf16",
        "out": "*bf16",
    }
    numbers = {"tokens": 4096, "rows": 1536, "quarter": 384}
    constants = persistent_constants(tile, width, nonlinearity)
    return compile_for(architecture, persistent_kernel, tensors, numbers, constants, persistent_options(tile))


def compile_weight_only(
    architecture: int, width: int, tokens: int, dtype: str, *, groups: int = 0, columns: int = 1536
) -> CompiledKernel:
    rows, activations = 1536, 32 if dtype == "fp32" else 16
    tile = tile_for(tokens, rows, columns, width, divmod(architecture, 10), activations=activations, groups=groups)
    tensors = {
        "x": f"*{dtype}",
        **plane_types(width),
        "weight_scale": "*fp32",
        "bias": f"*{dtype}",
        "out": "*fp32" if tile.splits > 1 else f"*{dtype}",
    }
    numbers = {"tokens": tokens, "rows": rows, "columns": columns, "quarter": -(-columns // 4)}
    type = "fp16" if dtype == "fp16" else "bf16"
    constants = weight_only_constants(tile, width, columns, groups, "silu", type)
    return compile_for(architecture, weight_only_kernel, tensors, numbers, constants, weight_only_options(tile))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("tokens", TOKENS)
def test_compiles_to_int8_products_without_spills(
    architecture: int, width: int, tokens: int, capfd: pytest.CaptureFixture[str]
) -> None:
    kernel = compile_linear(architecture, width, tokens, rows=13824, columns=1536)  # so many that nothing is split
    spilled = 40 if architecture == 90 and tokens == 4096 else 0  # outside the loop: see test_triton_compiled.py
    check(kernel, INT8_MMA[architecture], capfd.readouterr().out, SHARED_KIB[architecture], spilled)
    ptx = kernel.asm["ptx"]
    assert "cp.async" in ptx  # memory is read ahead of the products
    assert re.search(r"cvt\.rn\.bf16(x2)?\.f32", ptx)
    assert not re.search(r"\bfma\.rn", ptx)


@pytest.mark.parametrize("architecture", [80, 90])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 4), (7, 5), (130, 259)])
def test_compiles_for_odd_shapes(
    architecture: int, width: int, rows: int, columns: int, capfd: pytest.CaptureFixture[str]
) -> None:
    kernel = compile_linear(architecture, width, 1, rows, columns, dtype="fp16", bias=None)
    check(kernel, INT8_MMA[architecture], capfd.readouterr().out)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tokens", TOKENS)
def test_masks_bring_no_spills(architecture: int, tokens: int, capfd: pytest.CaptureFixture[str]) -> None:
    kernel = compile_linear(architecture, 8, tokens, 1531, 1531, dtype="fp32", bias="fp32")
    check(kernel, INT8_MMA[architecture], capfd.readouterr().out)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_groups_and_nonlinearities_bring_no_spills(architecture: int, capfd: pytest.CaptureFixture[str]) -> None:
    cases = zip((64, 128, 64), (4096, 4096, 1), WIDTHS, ("none", "gelu_tanh", "gelu"), strict=True)
    for size, tokens, width, nonlinearity in cases:
        groups = 1536 // size
        kernel = compile_linear(architecture, width, tokens, 1536, 1536, groups=groups, nonlinearity=nonlinearity)
        check(kernel, INT8_MMA[architecture], capfd.readouterr().out)
        assert not re.search(r"\bfma\.rn\.f32", kernel.asm["ptx"]) or nonlinearity != "none"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_of_own_widths_bring_no_spills(architecture: int, capfd: pytest.CaptureFixture[str]) -> None:
    for tokens, columns in ((1, 1536), (64, 1531), (4096, 1536)):
        kernel = compile_linear(architecture, 8, tokens, rows=13824, columns=columns, widths="*u8")
        check(kernel, INT8_MMA[architecture], capfd.readouterr().out, SHARED_KIB[architecture])
        assert columns % 16 or "cp.async" in kernel.asm["ptx"]
        assert not re.search(r"\bfma\.rn", kernel.asm["ptx"])


@pytest.mark.parametrize("architecture", [80, 90, 120])
@pytest.mark.parametrize("tokens", TOKENS)
def test_candidates_compile(architecture: int, tokens: int, capfd: pytest.CaptureFixture[str]) -> None:
    widths = cycle(WIDTHS)
    for name in kernels_for(tokens, 1536, 8960, 8, divmod(architecture, 10))[2::4]:
        if not Tile.parse(name).descriptors:
            kernel = compile_linear(architecture, next(widths), tokens, 1536, 8960, name=name)
            product = INT8_MMA[80 if Tile.parse(name).rows < 64 else architecture]
            check(kernel, product, capfd.readouterr().out, SHARED_KIB[architecture])


@pytest.mark.parametrize(("architecture", "width"), tuple(zip(ARCHITECTURES, cycle(WIDTHS))))
@pytest.mark.parametrize("integers", [True, False])
def test_parts_are_added_without_spills(
    architecture: int, width: int, integers: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    tensors = {
        "parts": "*i32" if integers else "*fp32",
        "scale": "*fp32" if integers else None,
        "sum": "*i32" if integers else None,
        "weight_scale": "*fp32",
        "bias": "*bf16",
        "out": "*bf16",
    }
    numbers = {"outputs": 1536, "rows": 1536}
    options = {"num_warps": 4, "enable_fp_fusion": False}
    constants = add_up_constants(8, width, "none")
    kernel = compile_for(architecture, add_up_kernel, tensors, numbers, constants, options)
    check(kernel, None, capfd.readouterr().out)
    assert not re.search(r"\bfma\.rn", kernel.asm["ptx"])


@pytest.mark.parametrize("architecture", [90, 100, 120])
@pytest.mark.parametrize("width", WIDTHS)
def test_persistent_programs_copy_in_bulk(architecture: int, width: int, capfd: pytest.CaptureFixture[str]) -> None:
    names = kernels_for(4096, 1536, 1536, width, divmod(architecture, 10))
    tiles = [tile for tile in map(Tile.parse, names) if tile.descriptors]
    assert tiles
    largest_first = sorted(tiles, key=lambda tile: -tile.tokens)
    for tile, nonlinearity in zip(largest_first[:2], ("none", "gelu") if width == 8 else ("none",), strict=False):
        kernel = compile_persistent(architecture, width, tile, nonlinearity)
        check(kernel, INT8_MMA[architecture], capfd.readouterr().out, SHARED_KIB[architecture])
        assert "cp.async.bulk.tensor" in kernel.asm["ptx"]
        assert nonlinearity != "none" or not re.search(r"\bfma\.rn", kernel.asm["ptx"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weight_only_products_bring_no_spills(architecture: int, capfd: pytest.CaptureFixture[str]) -> None:
    cases = [("bf16", 8, 1, 0), ("bf16", 6, 4096, 12), ("bf16", 4, 64, 0), ("fp16", 6, 4096, 0), ("fp32", 8, 17, 0)]
    first = ARCHITECTURES.index(architecture)  # three of these on each, each on three
    for dtype, width, tokens, groups in (cases * 2)[first : first + 3]:
        kernel = compile_weight_only(architecture, width, tokens, dtype, groups=groups)
        type = "f16" if dtype == "fp16" else "bf16"
        check(kernel, float_mma(architecture, type), capfd.readouterr().out)
        assert "cp.async" in kernel.asm["ptx"]
        assert f"fma.rn.{type}x2" in kernel.asm["ptx"]  # codes become values two at a time


@pytest.mark.parametrize(("architecture", "width", "dtype"), [(80, 4, "bf16"), (90, 6, "bf16"), (120, 6, "fp32")])
def test_weight_only_masks_bring_no_spills(
    architecture: int, width: int, dtype: str, capfd: pytest.CaptureFixture[str]
) -> None:
    kernel = compile_weight_only(architecture, width, 64, dtype, columns=1531)
    check(kernel, float_mma(architecture, "bf16"), capfd.readouterr().out)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("width", WIDTHS)
def test_unpacking_for_the_library_stores_whole_words(
    architecture: int, width: int, capfd: pytest.CaptureFixture[str]
) -> None:
    planes = {"mid": "*u8" if width >= 6 else None, "low": "*u8" if width == 8 else None}
    tensors = {"high": "*u8", **planes, "out": "*i8"}
    numbers = {"rows": 1536, "columns": 1536, "quarter": 384}
    constants = unpack_constants(width, 1536)
    kernel = compile_for(architecture, unpack_kernel, tensors, numbers, constants, {"num_warps": 4})
    check(kernel, None, capfd.readouterr().out)
    assert re.search(r"st\.global\.v[24]\.b32", kernel.asm["ptx"])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("columns", "groups", "dtype"), [(5120, 0, "bf16"), (1536, 24, "fp16"), (1531, 0, "fp32")])
def test_weights_are_restored_without_spills(
    architecture: int, width: int, columns: int, groups: int, dtype: str, capfd: pytest.CaptureFixture[str]
) -> None:
    tensors = {**plane_types(width), "weight_scale": "*fp32", "out": f"*{dtype}"}
    numbers = {"rows": 1536, "columns": columns, "quarter": -(-columns // 4)}
    constants = dequantize_constants(width, columns, groups)
    kernel = compile_for(architecture, dequantize_kernel, tensors, numbers, constants, dequantize_options())
    check(kernel, None, capfd.readouterr().out)
    ptx = kernel.asm["ptx"]
    assert "fma.rn.f16x2" in ptx  # codes become values two at a time
    assert not re.search(r"\b(fma\.rn|mul\.ftz)\.f32", ptx)  # each step rounds as the reference does
    assert not re.search(r"ld\.global\.b8\b", ptx) or columns % 16  # planes are read many bytes at a time
    assert re.search(r"st\.global\.v4\.b32", ptx) or columns % 16  # and weights written so

"""Attention in Triton, compiled ahead of time for GPUs that need not be there; see test_triton_compile.py."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")

from triton.compiler import CompiledKernel  # noqa: E402

from tadp.kernels.triton.ahead_of_time import compiling_for  # noqa: E402
from tadp.kernels.triton.attention import (  # noqa: E402
    attention,
    attention_constants,
    attention_kernel,
    attention_options,
)
from tadp.kernels.triton.attention_quantize import (  # noqa: E402
    OPTIONS,
    constants_for,
    quantize_tokens_kernel,
    quantize_values_kernel,
    statistics_kernel,
)
from tadp.kernels.triton.attention_tile import OPERANDS, AttentionTile, attention_tile_for  # noqa: E402
from tests.kernels.ahead_of_time import (  # noqa: E402
    ARCHITECTURES,
    INT8_MMA,
    SHARED_KIB,
    check,
    compile_for,
    float_mma,
)
from tests.kernels.launchers import attention_name  # noqa: E402

pytestmark = pytest.mark.aot

HEADS, KEYS = 40, 32760


@pytest.fixture(autouse=True)
def _compile_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    monkeypatch.setattr(triton.knobs.nvidia, "dump_ptxas_log", True)


def float8_mma(architecture: int) -> str:
    """The instruction for products of e4m3, added up in float32."""
    if architecture == 90:
        return r"wgmma\.mma_async\.sync\.aligned\.m64n\d+k32\.f32\.e4m3\.e4m3"
    if architecture == 100:
        return r"tcgen05\.mma\.cta_group::1\.kind::f8f6f4"
    return r"mma\.sync\.aligned\.m16n8k32\.row\.col\.f32\.e4m3\.e4m3\.f32"


def products_of(architecture: int, operands: str, type: str = "bf16") -> tuple[str, str]:
    """Instructions for q·k and for p·v."""
    scores, values = operands.split("_")
    first = INT8_MMA[architecture] if scores == "int8" else float8_mma(architecture)
    return first, float8_mma(architecture) if values == "float8" else float_mma(architecture, type)


def operands_of(architecture: int) -> tuple[str, ...]:
    return OPERANDS if architecture >= 89 else OPERANDS[:1]


def compile_attention(
    architecture: int, tile: AttentionTile, dim: int, dtype: str = "bf16", keys: int = KEYS, mask: str | None = None
) -> CompiledKernel:
    """For inputs ``(1, HEADS, keys, dim)`` that are views of ``(1, keys, HEADS, dim)``, a mask ``(keys, keys)``."""
    scores, values = tile.operands.split("_")
    float8, code = values == "float8", "*i8" if scores == "int8" else "*fp8e4nv"
    tensors = {
        "q": code,
        "q_scale": "*fp32",
        "k": code,
        "k_scale": "*fp32",
        "v": "*fp8e4nv" if float8 else f"*{dtype}",
        "v_scale": "*fp32" if float8 else None,
        "v_mean": "*fp32" if float8 else None,
        "mask": mask,
        "out": f"*{dtype}",
    }
    numbers = {"heads": HEADS, "queries": keys, "keys": keys}
    numbers |= {"padded_queries": -(-keys // tile.queries) * tile.queries}
    numbers |= {"padded_keys": -(-keys // tile.keys) * tile.keys}
    strides = {"batch": keys * HEADS * dim, "head": dim, "token": HEADS * dim, "dim": 1}
    numbers |= {f"v_stride_{name}": stride for name, stride in strides.items()}
    strides = {"batch": 0, "head": 0, "query": -(-keys // 16) * 16, "key": 1}
    numbers |= {f"mask_stride_{name}": stride for name, stride in strides.items()}
    seen = None if mask is None else torch.empty((1, 1, keys, keys), device="meta")
    constants = attention_constants(tile, keys, dim, seen)
    return compile_for(architecture, attention_kernel, tensors, numbers, constants, attention_options(tile))


def check_attention(
    kernel: CompiledKernel, architecture: int, products: tuple[str, str], log: str, spilled: int = 0
) -> None:
    """That both products are there and no other, that shared memory suffices and at most so many bytes are spilled."""
    found = [int(size) for size in re.findall(r"(\d+) bytes spill (?:stores|loads)", log)]
    assert len(found) == 2, log
    assert max(found) <= spilled
    no_spills = re.sub(r"\d+ bytes spill", "0 bytes spill", log)
    check(kernel, "|".join(products), no_spills, SHARED_KIB[architecture])
    assert all(re.search(product, kernel.asm["ptx"]) for product in products)
    assert not re.search(r"cvt\.rn\.f32\.s32", kernel.asm["ptx"])  # it would wait for the unit of powers of two


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dim", [64, 128])
def test_compiles_to_both_products_without_spills(
    architecture: int, dim: int, capfd: pytest.CaptureFixture[str]
) -> None:
    for operands in operands_of(architecture):
        tile = attention_tile_for(KEYS, dim, divmod(architecture, 10), operands)
        kernel = compile_attention(architecture, tile, dim)
        few = 32 if (architecture, dim, operands) == (120, 64, "int8_float16") else 0  # not the first
        check_attention(kernel, architecture, products_of(architecture, operands), capfd.readouterr().out, few)
        assert "cp.async" in kernel.asm["ptx"]  # memory is read ahead of the products
        if operands.endswith("float8") and architecture != 100:
            # In the order of attention.interleave, weights go to the second product in the registers they are in: what
            # is left are the sums and largest scores of rows, of which threads hold two for each 16 queries of a warp.
            rows = 2 * max(tile.queries // 16 // tile.warps, 1)
            assert kernel.asm["ptx"].count("shfl.sync") <= 8 * rows + 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_masks_types_and_large_heads_spill_little(architecture: int, capfd: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[int, str, int, str | None, int]] = [
        (128, "bf16", KEYS, "*u8", 64),
        (128, "fp16", 513, "*fp16", 64),
        (96, "fp32", 513, None, 0),
        (256, "bf16", KEYS, None, 300),
    ]
    first = ARCHITECTURES.index(architecture)  # two of these on each, each on two or three
    for dim, type, keys, mask, spilled in (cases * 3)[2 * first : 2 * first + 2]:
        tile = attention_tile_for(keys, dim, divmod(architecture, 10), masked=mask is not None)
        kernel = compile_attention(architecture, tile, dim, type, keys, mask)
        products = products_of(architecture, tile.operands, "f16" if type == "fp16" else "bf16")
        check_attention(kernel, architecture, products, capfd.readouterr().out, spilled)


@pytest.mark.parametrize("architecture", [80, 90])
def test_few_queries_compile(architecture: int, capfd: pytest.CaptureFixture[str]) -> None:
    tile = attention_tile_for(1, 128, divmod(architecture, 10))
    kernel = compile_attention(architecture, tile, 128, keys=77)
    check_attention(kernel, architecture, products_of(architecture, tile.operands), capfd.readouterr().out)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_quantization_compiles_without_spills(architecture: int, capfd: pytest.CaptureFixture[str]) -> None:
    strides = {"stride_batch": KEYS * HEADS * 128, "stride_head": 128, "stride_token": HEADS * 128, "stride_dim": 1}
    numbers: dict[str, int] = {
        "heads": HEADS,
        "tokens": KEYS,
        "padded_tokens": 32768,
        "chunks": 13,
        "blocks": 40,
        **strides,
    }
    constants: dict[str, Any] = constants_for(128)
    sums = {"x": "*bf16", "sums": "*fp32", "least": "*fp32", "largest": "*fp32"}
    kernel = compile_for(architecture, statistics_kernel, sums, numbers, constants, OPTIONS)
    check(kernel, None, capfd.readouterr().out)
    constants |= {"smallest": 1e-35, "interpreted": False}
    for code in ("*i8", "*fp8e4nv")[: 1 if architecture == 80 else 2]:
        tensors: dict[str, str | None] = {
            "x": "*bf16",
            "sums": "*fp32",
            "codes": code,
            "scale": "*fp32",
            "factor": "fp32",
        }
        kernel = compile_for(architecture, quantize_tokens_kernel, tensors, numbers, constants, OPTIONS)
        check(kernel, None, capfd.readouterr().out)
    if architecture > 80:
        tensors = {**sums, "codes": "*fp8e4nv", "scale": "*fp32", "mean": "*fp32"}
        kernel = compile_for(architecture, quantize_values_kernel, tensors, numbers, constants, OPTIONS)
        check(kernel, None, capfd.readouterr().out)
        assert re.search(r"cvt\.rn\.satfinite\.e4m3x2\.(f32|f16x2)", kernel.asm["ptx"])
        assert "st.global.v4.b32" in kernel.asm["ptx"]


def test_the_launcher_compiles_what_it_launches() -> None:
    def views(tokens: int) -> torch.Tensor:
        return torch.empty((1, tokens, 2, 64), dtype=torch.bfloat16, device="meta").transpose(1, 2)

    with compiling_for("sm_90"):
        for operands, mask in ((OPERANDS[0], None), (OPERANDS[1], torch.empty(70, 100, device="meta").bool())):
            name = attention_name(operands, views(70), mask)
            found = attention(views(70), views(100), views(100), mask, kernel_name=name)
            assert found.shape == (1, 2, 70, 64)
            assert found.transpose(1, 2).is_contiguous()

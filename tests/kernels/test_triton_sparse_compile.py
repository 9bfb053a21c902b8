"""Attention over the blocks of a map in Triton, compiled ahead of time; see test_triton_compile.py."""

import re
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")

from tadp.kernels.devices import attention_sizes  # noqa: E402
from tadp.kernels.registry import AttentionRequest  # noqa: E402
from tadp.kernels.triton.ahead_of_time import compiling_for  # noqa: E402
from tadp.kernels.triton.attention import attention_options  # noqa: E402
from tadp.kernels.triton.attention_tile import OPERANDS, AttentionTile, attention_tile_for  # noqa: E402
from tadp.kernels.triton.sparse_attention import (  # noqa: E402
    sparse_attention,
    sparse_attention_constants,
    sparse_attention_kernel,
)
from tests.kernels.ahead_of_time import ARCHITECTURES, SHARED_KIB, compile_for  # noqa: E402

pytestmark = pytest.mark.aot

HEADS, TOKENS = 40, 32760


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dim", [64, 128])
def test_compiles_to_products_on_tensor_cores(
    architecture: int, dim: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    monkeypatch.setattr(triton.knobs.nvidia, "dump_ptxas_log", True)
    tile = attention_tile_for(TOKENS, dim, divmod(architecture, 10), row_queries=128)
    assert tile.fits_map(128)
    float8, code = tile.operands.endswith("float8"), "*i8" if tile.operands.startswith("int8") else "*fp8e4nv"
    tensors = {
        "q": code,
        "q_scale": "*fp32",
        "k": code,
        "k_scale": "*fp32",
        "v": "*fp8e4nv" if float8 else "*bf16",
        "v_scale": "*fp32" if float8 else None,
        "v_mean": "*fp32" if float8 else None,
        "kept": "*i32",
        "counts": "*i32",
        "out": "*bf16",
    }
    numbers = {"heads": HEADS, "queries": TOKENS, "keys": TOKENS, "padded_queries": 32768, "padded_keys": 32768}
    numbers |= {"rows": 256, "key_blocks": 512}
    strides = {"batch": TOKENS * HEADS * dim, "head": dim, "token": HEADS * dim, "dim": 1}
    numbers |= {f"v_stride_{name}": stride for name, stride in strides.items()}
    constants = sparse_attention_constants(tile, TOKENS, dim, 128)
    kernel = compile_for(architecture, sparse_attention_kernel, tensors, numbers, constants, attention_options(tile))
    ptx = kernel.asm["ptx"]
    products = set(re.findall(r"(?:wgmma\.mma_async|tcgen05\.mma|\bmma\.sync)\.\S+", ptx))
    first = r"\.s32\.s8\.s8" if tile.operands.startswith("int8") else r"e4m3|f8f6f4"
    second = r"e4m3|f8f6f4" if float8 else r"\.f32\.bf16\.bf16|kind::f16"
    assert products
    assert all(re.search(f"{first}|{second}", product) for product in products), products
    assert any(re.search(first, product) for product in products)
    assert any(re.search(second, product) for product in products)
    spilled = [int(size) for size in re.findall(r"(\d+) bytes spill (?:stores|loads)", capfd.readouterr().out)]
    assert len(spilled) == 2
    assert max(spilled) == 0
    assert kernel.metadata.shared <= SHARED_KIB[architecture] * 1024
    assert "cp.async" in ptx  # memory is read ahead of the products


def test_the_launcher_compiles_what_it_launches() -> None:
    def views(tokens: int) -> torch.Tensor:
        return torch.empty((1, tokens, 2, 64), dtype=torch.bfloat16, device="meta").transpose(1, 2)

    q, k = views(700), views(900)
    for rows in (6, 11):
        block_map = torch.empty((1, 2, rows, 15), dtype=torch.bool, device="meta")
        request = AttentionRequest(q, k, k, None, 8, "cuda", "sm_90", block_map)
        names = attention_sizes(request)
        with compiling_for("sm_90"):
            found = sparse_attention(q, k, k, block_map, kernel_name=names[0])
        assert found.shape == (1, 2, 700, 64)
        assert all(AttentionTile.parse(name).fits_map(128 if rows == 6 else 64) for name in names)
        assert {AttentionTile.parse(name).operands for name in names} == set(OPERANDS)

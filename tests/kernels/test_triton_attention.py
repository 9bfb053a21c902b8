"""Attention in Triton on a GPU; without one, interpreted_attention.py and test_triton_attention_compile.py stand in."""

import importlib.util
from collections.abc import Callable

import pytest
import torch

from tadp.doctor.triton_attention_bounds import attention_bound
from tadp.kernels import reference
from tadp.kernels import triton as triton_kernels
from tadp.kernels.triton.attention_tile import OPERANDS, AttentionTile, attention_kernels_for
from tests.kernels.launchers import attention_name

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")

HOPPER_SUMS = 2.0**-12
"""Relative error of an addition in a sum of e4m3 products: about 14 bits are kept, of which two may be shifted out."""

SHAPES = ((1, 1, 1, 1, 32), (2, 3, 70, 131, 40), (1, 2, 129, 257, 64), (1, 2, 300, 513, 96), (1, 2, 257, 640, 128))
SHAPES = (*SHAPES, (1, 1, 65, 130, 256))
MASKS: dict[str, Callable[[torch.Tensor], torch.Tensor | None]] = {
    "none": lambda drawn: None,
    "boolean": lambda drawn: drawn > 0.3,
    "keys": lambda drawn: (drawn > 0.3)[:, :1, :1],
    "added": lambda drawn: torch.where(drawn > 0.3, drawn, -torch.inf),
}


def drawn_inputs(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    """Queries, keys and values as models pass them, and random numbers for a mask, whose third query sees nothing."""
    batch, heads, queries, keys, dim = shape
    generator = torch.Generator().manual_seed(sum(shape))
    sizes = ((queries, 1.0, 0.0), (keys, 1.5, 2.0), (keys, 2.0, -1.0))
    inputs = tuple(
        torch.randn(batch, tokens, heads, dim, generator=generator).mul(size).add(offset).to(dtype).transpose(1, 2)
        for tokens, size, offset in sizes
    )
    drawn = torch.rand(batch, heads, queries, keys, generator=generator)
    drawn[..., 0] = 1.0
    drawn[:, :, 2:3] = 0.0
    return inputs, drawn


def supported(names: tuple[str, ...]) -> list[str]:
    float8 = torch.cuda.get_device_capability() >= (8, 9)
    return [name for name in names if float8 or "float8" not in name]


def named(operands: str, q: torch.Tensor, mask: torch.Tensor | None = None) -> str:
    return attention_name(operands, q, mask, torch.cuda.get_device_capability())


def assert_close(
    found: torch.Tensor, inputs: tuple[torch.Tensor, ...], mask: torch.Tensor | None, operands: str
) -> None:
    exact = reference.attention(*inputs, mask, dtype=torch.float64)
    bound = attention_bound(*inputs, mask, operands=operands, accumulation=HOPPER_SUMS)
    assert found.transpose(1, 2).is_contiguous()
    assert ((found.cpu().double() - exact).abs() <= bound).all(), operands


@pytest.mark.gpu
@needs_gpu
@needs_triton
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mask", MASKS)
def test_operands_on_a_gpu(mask: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    inputs, drawn = drawn_inputs(shape, dtype)
    seen = MASKS[mask](drawn)
    on_gpu = [None if tensor is None else tensor.cuda() for tensor in (*inputs, seen)]
    for operands in supported(OPERANDS):
        found = torch.ops.tadp.attention(*on_gpu, kernel_name=named(operands, inputs[0], seen))
        assert_close(found, inputs, seen, operands)


@pytest.mark.gpu
@needs_gpu
@needs_triton
@pytest.mark.parametrize("queries", [17, 500])
@pytest.mark.parametrize("dim", [64, 128])
def test_candidates_on_a_gpu(dim: int, queries: int) -> None:
    inputs, _ = drawn_inputs((1, 2, queries, 600, dim), torch.bfloat16)
    on_gpu = [tensor.cuda() for tensor in inputs]
    for name in attention_kernels_for(queries, dim, torch.cuda.get_device_capability()):
        found = torch.ops.tadp.attention(*on_gpu, kernel_name=name)
        assert_close(found, inputs, None, AttentionTile.parse(name).operands)


@pytest.mark.gpu
@needs_gpu
@needs_triton
def test_what_is_not_finite_on_a_gpu() -> None:
    inputs, _ = drawn_inputs((1, 2, 70, 130, 64), torch.bfloat16)
    q, k, v = (tensor.cuda() for tensor in inputs)
    for operands in supported(OPERANDS):
        clean = torch.ops.tadp.attention(q, k, v, kernel_name=named(operands, q))
        spoiled = q.clone()
        spoiled[0, 1, 5, 3] = torch.nan
        found = torch.ops.tadp.attention(spoiled, k, v, kernel_name=named(operands, q))
        assert found[0, 1, 5].isnan().all()
        found[0, 1, 5] = clean[0, 1, 5]
        assert torch.equal(found, clean)
        spoiled = v.clone()
        spoiled[0, 0, 7, 3] = torch.nan
        found = torch.ops.tadp.attention(q, k, spoiled, kernel_name=named(operands, q))
        assert found[0, 0, :, 3].isnan().all()
        assert found[0, 0, :, 4:].isfinite().all()
        huge = torch.ops.tadp.attention(q * 1e4, k * 1e4, v, kernel_name=named(operands, q))
        assert huge.isfinite().all()


@pytest.mark.gpu
@needs_gpu
@needs_triton
def test_many_heads_and_tokens_on_a_gpu() -> None:
    generator = torch.Generator("cuda").manual_seed(1)
    q, k, v = (torch.randn(1, 5003, 24, 128, generator=generator, device="cuda").half().transpose(1, 2) for _ in "qkv")
    for operands in supported(OPERANDS):
        found = torch.ops.tadp.attention(q, k, v, kernel_name=named(operands, q))[:, 20:21]
        exact = reference.attention(q[:, 20:21], k[:, 20:21], v[:, 20:21], dtype=torch.float64)
        assert (found - exact).norm() <= 0.1 * exact.norm()


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("masked", [False, True])
def test_opcheck_on_a_gpu(masked: bool) -> None:
    inputs, drawn = drawn_inputs((2, 2, 19, 33, 40), torch.float16)
    mask = (drawn > 0.3).cuda() if masked else None
    torch.library.opcheck(torch.ops.tadp.attention.default, (*(tensor.cuda() for tensor in inputs), mask))


def test_capabilities_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert triton_kernels.capability_of(torch.device("cpu")) == (9, 0)
    monkeypatch.setattr(triton_kernels, "_capability", lambda device: (8, 6))
    assert triton_kernels.capability_of(torch.device("cuda", 0)) == (8, 6)

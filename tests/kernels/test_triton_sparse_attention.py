"""Attention over the blocks of a map on a GPU; without one, interpreted_sparse_attention.py stands in."""

import importlib.util

import pytest
import torch

from tadp.doctor.triton_attention_bounds import attention_bound
from tadp.kernels import reference
from tadp.kernels.block_map import map_shape
from tadp.kernels.triton.attention_tile import AttentionTile, attention_kernels_for

HOPPER_SUMS = 2.0**-12
"""As in test_triton_attention.py."""

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


@pytest.mark.parametrize("row_queries", [64, 128])
@pytest.mark.parametrize("dim", [64, 128])
def test_candidates_on_a_gpu(dim: int, row_queries: int) -> None:
    generator = torch.Generator().manual_seed(dim)
    q, k, v = (torch.randn(1, 500, 2, dim, generator=generator).bfloat16().transpose(1, 2) for _ in range(3))
    drawn = torch.rand(map_shape(q, k, row_queries), generator=generator)
    block_map = (drawn < 0.4) | (drawn == drawn.amin(-1, keepdim=True))
    mask = reference.tokens_of_blocks(block_map, 500, 500)
    exact = reference.attention(q, k, v, mask, dtype=torch.float64)
    on_gpu = [tensor.cuda() for tensor in (q, k, v)]
    every = torch.ones_like(block_map).cuda()
    for name in attention_kernels_for(500, dim, torch.cuda.get_device_capability(), row_queries=row_queries):
        found = torch.ops.tadp.attention(*on_gpu, kernel_name=name, block_map=block_map.cuda())
        bound = attention_bound(q, k, v, mask, operands=AttentionTile.parse(name).operands, accumulation=HOPPER_SUMS)
        assert ((found.cpu().double() - exact).abs() <= bound).all(), name
        dense = torch.ops.tadp.attention(*on_gpu, kernel_name=name)
        assert torch.equal(torch.ops.tadp.attention(*on_gpu, kernel_name=name, block_map=every), dense), name


def test_a_map_is_chosen_and_used_on_a_gpu() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    q, k, v = (torch.randn(1, 2000, 4, 64, generator=generator, device="cuda").half().transpose(1, 2) for _ in "qkv")
    block_map = torch.ops.tadp.block_map(q, k, 0.5, query_block=128)
    assert (block_map.sum(-1) == 16).all()
    found = torch.ops.tadp.attention(q, k, v, block_map=block_map)
    exact = reference.attention(q, k, v, dtype=torch.float64, block_map=block_map)
    assert (found - exact).norm() <= 0.1 * exact.norm()

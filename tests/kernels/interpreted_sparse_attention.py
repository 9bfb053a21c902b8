"""Attention over the blocks of a map in Triton's interpreter; see interpreted_linear.py."""

import pytest
import torch
import triton

from tadp.doctor.triton_attention_bounds import attention_bound
from tadp.kernels import reference
from tadp.kernels.block_map import map_shape
from tadp.kernels.triton.attention import attention
from tadp.kernels.triton.attention_tile import OPERANDS
from tadp.kernels.triton.sparse_attention import kept_first, sparse_attention

pytestmark = pytest.mark.skipif(not triton.knobs.runtime.interpret, reason="TRITON_INTERPRET is not set")

SHAPES = (  # batch, heads, queries, keys, dim, queries of a row
    (1, 2, 1, 131, 64, 64),
    (2, 1, 130, 200, 32, 64),
    (1, 2, 200, 256, 40, 128),
    (1, 1, 64, 64, 32, 64),
)
TYPES = (torch.float16, torch.float32, torch.bfloat16)


def name_of(operands: str, queries: int = 32, keys: int = 64) -> str:
    return f"triton-{operands}-{queries}x{keys}-w1-s2"


def inputs(
    batch: int, heads: int, queries: int, keys: int, dim: int, row_queries: int, dtype: torch.dtype = torch.float16
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Views as a model passes them, and a map that keeps any blocks, and one at least of each row."""
    generator = torch.Generator().manual_seed(queries + keys)
    q, k, v = (
        torch.randn(batch, count, heads, dim, generator=generator).add(offset).to(dtype).transpose(1, 2)
        for count, offset in ((queries, 0.0), (keys, 2.0), (keys, -1.0))
    )
    drawn = torch.rand(map_shape(q, k, row_queries), generator=generator)
    return q, k, v, (drawn < 0.4) | (drawn == drawn.amin(-1, keepdim=True))


@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_results_are_those_of_a_mask_of_whole_blocks(shape: tuple[int, ...], operands: str) -> None:
    dtype = TYPES[sum(shape) % 3]
    q, k, v, block_map = inputs(*shape, dtype)
    mask = reference.tokens_of_blocks(block_map, q.shape[2], k.shape[2])
    exact = reference.attention(q, k, v, mask, dtype=torch.float64)
    bound = attention_bound(q, k, v, mask, operands=operands)
    if dtype == torch.bfloat16:  # the interpreter cuts it off
        bound = bound + exact.abs() * torch.finfo(dtype).eps / 2
    found = sparse_attention(q, k, v, block_map, kernel_name=name_of(operands))
    assert found.dtype == dtype
    assert found.transpose(1, 2).is_contiguous()
    assert ((found.double() - exact).abs() <= bound).all()


@pytest.mark.parametrize("operands", OPERANDS)
@pytest.mark.parametrize("keys", [32, 64])
@pytest.mark.parametrize("tokens", [192, 131])
def test_all_blocks_give_the_bits_of_dense_attention(tokens: int, keys: int, operands: str) -> None:
    q, k, v, block_map = inputs(1, 2, tokens, tokens, 32, 64)
    name = name_of(operands, 64, keys)
    every = torch.ones_like(block_map)
    assert torch.equal(
        sparse_attention(q, k, v, every, 0.2, kernel_name=name), attention(q, k, v, scale=0.2, kernel_name=name)
    )


def test_steps_of_half_a_block_see_the_same_keys() -> None:
    """Only the order in which float32 sums are rounded differs, and the peak that weights are relative to."""
    q, k, v, block_map = inputs(1, 2, 130, 200, 32, 64, torch.float32)
    one, two = (
        sparse_attention(q, k, v, block_map, kernel_name=name_of("int8_float16", 32, keys)) for keys in (64, 32)
    )
    assert (one - two).abs().amax() <= 2.0**-7 * v.abs().amax()  # weights in bfloat16, cut off


def test_half_a_block_of_keys_has_no_second_half() -> None:
    """Steps of 32 keys fill 96 keys, but not the second of two blocks."""
    q, k, v, block_map = inputs(1, 2, 64, 96, 32, 64, torch.float32)
    every = torch.ones_like(block_map)
    found = sparse_attention(q, k, v, every, kernel_name=name_of("int8_float16", 64, 32))
    exact = reference.attention(q, k, v, dtype=torch.float64)
    assert ((found - exact).abs() <= attention_bound(q, k, v, operands="int8_float16")).all()


def test_a_row_that_keeps_nothing_gives_nan_and_no_other() -> None:
    q, k, v, block_map = inputs(1, 2, 130, 200, 32, 64)
    whole = sparse_attention(q, k, v, block_map, kernel_name=name_of("int8_float16"))
    block_map[0, 1, 1] = False
    found = sparse_attention(q, k, v, block_map, kernel_name=name_of("int8_float16"))
    assert found[0, 1, 64:128].isnan().all()
    found[0, 1, 64:128] = whole[0, 1, 64:128]
    assert torch.equal(found, whole)


def test_what_is_left_out_is_not_read() -> None:
    q, k, v, block_map = inputs(1, 1, 64, 192, 32, 64)
    block_map[:] = torch.tensor([True, False, True])
    expected = sparse_attention(q, k, v, block_map, kernel_name=name_of("int8_float16"))
    v[:, :, 64:128] = torch.nan
    assert torch.equal(sparse_attention(q, k, v, block_map, kernel_name=name_of("int8_float16")), expected)


def test_kept_blocks_come_first_in_their_order() -> None:
    order, counts = kept_first(torch.tensor([[False, True, False, True], [True, True, True, True]]))
    assert order.tolist() == [[1, 3, 0, 2], [0, 1, 2, 3]]
    assert counts.tolist() == [2, 4]
    assert order.dtype == counts.dtype == torch.int32


def test_tiles_that_do_not_fit_a_map_are_refused() -> None:
    q, k, v, block_map = inputs(1, 1, 200, 256, 32, 64)
    for name in (name_of("int8_float16", 128, 64), name_of("int8_float16", 64, 128)):
        with pytest.raises(ValueError, match="tiles of up to 64 queries and 64 keys"):
            sparse_attention(q, k, v, block_map, kernel_name=name)


def test_nothing_to_do() -> None:
    q, k, v, block_map = inputs(0, 2, 3, 4, 32, 64)
    assert sparse_attention(q, k, v, block_map, kernel_name=name_of("int8_float16")).shape == q.shape

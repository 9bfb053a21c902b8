"""8-bit attention over the blocks of keys that a map names, against the exact one with the other keys hidden."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.kernels import reference, registry
from tadp.kernels.block_map import map_shape
from tadp.kernels.isa import cpu_isa
from tadp.kernels.registry import AttentionRequest, Kernel, candidates, register, unserved
from tests.kernels.attention_cases import DIMS, QUERIES, Attention, bound, case
from tests.kernels.cases import FLOATS, ISAS, SEEDS, needs_vector_isas

every_isa = pytest.mark.parametrize("isa", ISAS)
some_examples = settings(deadline=None, max_examples=20)

# Around one, three (those of a block of csrc/cpu) and more blocks of 64, and a rest behind them.
KEYS = st.sampled_from([1, 5, 63, 64, 65, 128, 131, 191, 192, 193, 256, 390, 640, 645])
BLOCKS = st.sampled_from([64, 128])
SHARES = st.sampled_from([0.0, 0.1, 0.5, 0.9])


def sparse(
    seed: int, queries: int, keys: int, dim: int, dtype: torch.dtype, query_block: int, share: float
) -> Attention:
    """A case whose blocks of queries see any of the blocks of keys, and one at least."""
    made = case(seed, 2, 2, queries, keys, dim, dtype)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(map_shape(made.q, made.k, query_block), generator=generator)
    return replace(made, block_map=(drawn < share) | (drawn == drawn.amin(-1, keepdim=True)))


@every_isa
@some_examples
@given(SEEDS, QUERIES, KEYS, DIMS, st.sampled_from(FLOATS), BLOCKS, SHARES)
def test_results_are_within_the_derived_bound(
    isa: str, seed: int, queries: int, keys: int, dim: int, dtype: torch.dtype, query_block: int, share: float
) -> None:
    attention = sparse(seed, queries, keys, dim, dtype, query_block, share)
    with cpu_isa(isa):
        found = attention.run()
    assert found.dtype == dtype
    assert ((found.double() - attention.exact()).abs() <= bound(attention)).all()


@needs_vector_isas
@some_examples
@given(SEEDS, QUERIES, KEYS, DIMS, st.sampled_from(FLOATS), BLOCKS, SHARES)
def test_all_instruction_sets_agree_to_the_bit(
    seed: int, queries: int, keys: int, dim: int, dtype: torch.dtype, query_block: int, share: float
) -> None:
    attention = sparse(seed, queries, keys, dim, dtype, query_block, share)
    results = []
    for isa in ISAS:
        with cpu_isa(isa):
            results.append(attention.run())
    assert all(torch.equal(result, results[0]) for result in results[1:])


@every_isa
@some_examples
@given(SEEDS, QUERIES, KEYS, DIMS, st.sampled_from(FLOATS), BLOCKS)
def test_all_blocks_give_the_bits_of_dense_attention(
    isa: str, seed: int, queries: int, keys: int, dim: int, dtype: torch.dtype, query_block: int
) -> None:
    dense = case(seed, 2, 2, queries, keys, dim, dtype)
    every = torch.ones(map_shape(dense.q, dense.k, query_block), dtype=torch.bool)
    with cpu_isa(isa):
        assert torch.equal(replace(dense, block_map=every).run(), dense.run())


@every_isa
def test_what_is_left_out_is_not_looked_at(isa: str) -> None:
    """Keys and values that no query sees may change places: of whole numbers even the means are the same to the bit."""
    attention = sparse(0, 130, 512, 64, torch.float32, 64, 0.3)
    first = torch.zeros_like(attention.block_map)
    first[..., :3] = True
    attention = replace(attention, k=attention.k.round(), v=attention.v.round(), block_map=first)
    order = torch.cat([torch.arange(192), 192 + torch.randperm(320, generator=torch.Generator().manual_seed(0))])
    moved = replace(attention, k=attention.k[..., order, :], v=attention.v[..., order, :])
    with cpu_isa(isa):
        assert torch.equal(attention.run(), moved.run())
        assert not torch.equal(replace(attention, block_map=None).run(), attention.run())


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_map_is_a_mask_of_whole_blocks(dtype: torch.dtype) -> None:
    """Both are the same function, in codes that differ only in which weights are rounded in terms of which peak."""
    attention = sparse(3, 131, 390, 64, dtype, 64, 0.5)
    assert attention.block_map is not None
    mask = reference.tokens_of_blocks(attention.block_map, 131, 390)
    masked = replace(attention, block_map=None, mask=mask)
    assert torch.equal(attention.exact(), masked.exact())
    difference = (attention.run().double() - masked.run().double()).abs()
    assert (difference <= bound(attention) + bound(masked)).all()


@pytest.mark.parametrize("query_block", [64, 128])
def test_rows_of_a_map_speak_for_their_queries(query_block: int) -> None:
    keys = 640
    block_map = torch.zeros(1, 1, 256 // query_block, 10, dtype=torch.bool)
    for row in range(block_map.shape[2]):
        block_map[..., row, row] = True
    hidden = reference.tokens_of_blocks(block_map, 256, keys)
    for query in range(256):
        block = query // query_block
        assert hidden[0, 0, query].nonzero().flatten().tolist() == list(range(64 * block, 64 * block + 64))
    q, k, _ = (torch.randn(1, 1, tokens, 32, generator=torch.Generator().manual_seed(1)) for tokens in (256, keys, 1))
    number = (torch.arange(keys) // 64).float()[:, None].expand(1, 1, keys, 32)
    found = torch.ops.tadp.attention(q, k, number, block_map=block_map)
    # Seen values are all alike: the result is their number, but for a step of 9 / 252 for each channel.
    assert ((found[0, 0, :, 0] - torch.arange(256) // query_block).abs() <= 9 / 126).all()


def test_samples_and_heads_have_maps_of_their_own() -> None:
    attention = sparse(5, 131, 390, 40, torch.bfloat16, 64, 0.4)
    together = attention.run()
    for batch in range(2):
        for head in range(2):
            assert torch.equal(together[batch, head], attention.of(batch, head).run()[0, 0])


def test_any_layout_of_a_map_is_read() -> None:
    attention = sparse(6, 131, 390, 40, torch.bfloat16, 64, 0.4)
    assert attention.block_map is not None
    turned = attention.block_map.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert torch.equal(replace(attention, block_map=turned).run(), attention.run())


@every_isa
def test_not_a_number_stays_where_it_was(isa: str) -> None:
    attention = sparse(7, 131, 390, 64, torch.float32, 64, 0.4)
    q, v = attention.q.clone(), attention.v.clone()
    q[0, 0, 3, 5] = torch.nan
    v[1, 1, 9, 5] = torch.nan
    with cpu_isa(isa):
        found = replace(attention, q=q, v=v).run()
    expected = torch.zeros(found.shape, dtype=torch.bool)
    expected[0, 0, 3] = True
    expected[1, 1, :, 5] = True
    assert torch.equal(found.isnan(), expected)


def test_opcheck() -> None:
    attention = sparse(8, 70, 131, 32, torch.bfloat16, 64, 0.5)
    torch.library.opcheck(
        torch.ops.tadp.attention.default,
        (attention.q, attention.k, attention.v),
        {"scale": 0.2, "block_map": attention.block_map},
    )


def test_a_block_of_queries_that_sees_nothing_is_refused() -> None:
    attention = sparse(9, 131, 390, 64, torch.float32, 64, 0.5)
    assert attention.block_map is not None
    empty = attention.block_map.clone()
    empty[1, 0, 1] = False
    with pytest.raises(RuntimeError, match="tadp: block_map keeps no keys for a block of queries"):
        replace(attention, block_map=empty).run()


@pytest.mark.parametrize(
    ("block_map", "message"),
    [
        (torch.ones(2, 2, 3, 6, dtype=torch.bool), r"block_map must be \(batch, heads"),
        (torch.ones(2, 2, 4, 7, dtype=torch.bool), r"block_map must be \(batch, heads"),
        (torch.ones(2, 1, 3, 7, dtype=torch.bool), r"block_map must be \(batch, heads"),
        (torch.ones(2, 3, 7, dtype=torch.bool), r"block_map must be \(batch, heads"),
        (torch.ones(2, 2, 3, 7, dtype=torch.uint8), "block_map must be boolean"),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_wrong_maps_are_refused(block_map: torch.Tensor, message: str, device: str) -> None:
    attention = case(0, 2, 2, 131, 390, 64)
    q, k, v, given = (x.to(device) for x in (attention.q, attention.k, attention.v, block_map))
    with pytest.raises(RuntimeError, match=f"tadp: .*{message}"):
        torch.ops.tadp.attention(q, k, v, block_map=given)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_map_and_a_mask_are_refused(device: str) -> None:
    attention = case(0, 1, 1, 64, 128, 64)
    q, k, v = (x.to(device) for x in (attention.q, attention.k, attention.v))
    block_map = torch.ones(1, 1, 1, 2, dtype=torch.bool, device=device)
    mask = torch.ones(128, dtype=torch.bool, device=device)
    with pytest.raises(RuntimeError, match="a mask or a block_map, not both"):
        torch.ops.tadp.attention(q, k, v, mask, block_map=block_map)


def test_only_sparse_kernels_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "KERNELS", dict(registry.KERNELS))

    def run(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float | None
    ) -> torch.Tensor:
        return torch.zeros_like(q)

    register(Kernel("mine", "attention", "cpu", lambda request: None, run))
    attention = sparse(10, 64, 128, 32, torch.float32, 64, 0.5)
    dense = AttentionRequest.of(attention.q, attention.k, attention.v, None, 8)
    request = replace(dense, block_map=attention.block_map)
    assert [kernel.name for kernel in candidates(dense)] == ["mine", "int8"]
    assert [kernel.name for kernel in candidates(request)] == ["int8"]
    refused = replace(request, mask=torch.ones(128, dtype=torch.bool))
    assert "attention:mine: it multiplies all blocks of keys" in unserved(refused)
    with pytest.raises(RuntimeError, match="attention:mine takes no block_map"):
        torch.ops.tadp.registered_attention(
            attention.q, attention.k, attention.v, kernel_name="mine", block_map=attention.block_map
        )
    through_python = torch.ops.tadp.registered_attention(
        attention.q, attention.k, attention.v, block_map=attention.block_map
    )
    assert torch.equal(through_python, attention.run())

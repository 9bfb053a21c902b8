"""Which blocks a map keeps, against a plain loop over blocks in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.kernels import reference
from tadp.kernels.block_map import blocks_kept, blocks_of, choose_blocks, pins, pool
from tests.kernels.cases import SEEDS

some_examples = settings(deadline=None, max_examples=30)
TOKENS = st.sampled_from([1, 63, 64, 65, 128, 200, 450, 640])
BLOCKS = st.sampled_from([64, 128])


def tokens(seed: int, queries: int, keys: int, dim: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(2, count, 2, dim, generator=generator).transpose(1, 2) for count in (queries, keys))
    return 3.0 * q, k


def guessed(q: torch.Tensor, k: torch.Tensor, query_block: int) -> torch.Tensor:
    """The softmax of products of averages, times the keys of each block, block by block in float64."""
    rows = torch.stack([part.double().mean(2) for part in q.split(query_block, 2)], 2)
    parts = k.split(64, 2)
    scores = torch.stack([(rows * part.double().mean(2)[:, :, None]).sum(-1) for part in parts], -1)
    sizes = torch.tensor([part.shape[2] for part in parts]).double()
    weights = (scores * q.shape[-1] ** -0.5).softmax(-1) * sizes / 64
    return weights / weights.sum(-1, keepdim=True)


@some_examples
@given(SEEDS, TOKENS, TOKENS, BLOCKS, st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]))
def test_the_largest_guesses_are_kept(seed: int, queries: int, keys: int, query_block: int, share: float) -> None:
    q, k = tokens(seed, queries, keys)
    kept = choose_blocks(q, k, share, query_block=query_block, diagonal=False)
    weights = guessed(q, k, query_block)
    assert kept.shape == weights.shape
    assert (kept.sum(-1) == blocks_kept(share, weights.shape[-1])).all()
    least = weights.masked_fill(~kept, torch.inf).amin(-1)
    most = weights.masked_fill(kept, 0.0).amax(-1)
    # float32: averages of 64 numbers, products over 32 channels and a softmax, each off by 1e-6 at most
    assert (least >= most * (1 - 1e-4)).all()


@some_examples
@given(SEEDS, TOKENS, TOKENS, BLOCKS, st.sampled_from([0.2, 0.5, 0.9, 0.99]))
def test_no_more_is_kept_than_the_mass_asks_for(
    seed: int, queries: int, keys: int, query_block: int, mass: float
) -> None:
    q, k = tokens(seed, queries, keys)
    kept = choose_blocks(q, k, mass=mass, query_block=query_block, diagonal=False)
    weights = guessed(q, k, query_block)
    total, held = weights.sum(-1), (weights * kept).sum(-1)
    assert (held >= mass * total - 1e-4).all()
    one_less = held - weights.masked_fill(~kept, torch.inf).amin(-1)
    assert (one_less <= mass * total + 1e-4).all()


def test_mass_follows_the_content() -> None:
    """A row with one block that matters keeps it alone, a row without differences as large a share as the mass."""
    q = torch.zeros(1, 1, 128, 32)
    k = torch.zeros(1, 1, 640, 32)
    k[:, :, 128:192] = 8.0
    q[:, :, 64:] = 8.0
    kept = choose_blocks(q, k, mass=0.85, diagonal=False)[0, 0]
    assert kept[0].sum() == 9
    assert kept[1].nonzero().flatten().tolist() == [2]
    both = choose_blocks(q, k, share=0.3, mass=0.85, diagonal=False)[0, 0]
    assert both.sum(-1).tolist() == [9, 3]
    assert both[1, 2]


@pytest.mark.parametrize("rule", [{"share": 0.3}, {"mass": 0.5}])
@pytest.mark.parametrize("query_block", [64, 128])
def test_pins_count_among_the_kept(rule: dict[str, float], query_block: int) -> None:
    q, k = tokens(1, 1280, 1280)
    kept = choose_blocks(q, k, **rule, query_block=query_block, first=1, last=2)
    pinned = torch.zeros(1280 // query_block, 20, dtype=torch.bool)
    pinned[:, 0] = pinned[:, 18:] = True
    for row in range(1280 // query_block):
        for column in range(20):
            pinned[row, column] |= row * query_block <= column * 64 < (row + 1) * query_block
    assert (kept | ~pinned).all()
    if "share" in rule:
        assert (kept.sum(-1) == 6).all()


def test_all_pins_are_kept_where_there_are_more_than_the_share() -> None:
    q, k = tokens(2, 640, 640)
    kept = choose_blocks(q, k, 0.1, first=3, last=1)
    assert torch.equal(kept, pins(10, 10, 64, True, 3, 1, q.device).expand_as(kept))


@pytest.mark.parametrize(
    ("share", "blocks", "kept"), [(0.0, 7, 1), (0.5, 5, 3), (0.25, 20, 5), (0.1, 20, 2), (1, 9, 9)]
)
def test_a_share_is_rounded(share: float, blocks: int, kept: int) -> None:
    assert blocks_kept(share, blocks) == kept


def test_the_mean_of_keys_changes_nothing() -> None:
    q, k = tokens(3, 640, 640)
    shift = 5.0 * torch.randn(2, 2, 1, 32, generator=torch.Generator().manual_seed(4))
    assert torch.equal(choose_blocks(q, k, 0.3), choose_blocks(q, k + shift, 0.3))


def test_a_last_block_of_one_key_counts_as_one() -> None:
    q = torch.ones(1, 1, 64, 32)
    k = torch.zeros(1, 1, 129, 32)
    k[:, :, 128] = 0.5  # e^2.8, a sixteenth of what 64 such keys would weigh
    assert choose_blocks(q, k, 0.3, diagonal=False)[0, 0, 0].tolist() == [True, False, False]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_averages(dtype: torch.dtype) -> None:
    _, k = tokens(5, 1, 200)
    pooled = pool(k.to(dtype), 64)
    assert pooled.dtype == torch.float32
    assert pooled.shape == (2, 2, blocks_of(200, 64), 32)
    for index, part in enumerate(k.to(dtype).double().split(64, 2)):
        torch.testing.assert_close(pooled[:, :, index].double(), part.mean(2), rtol=0, atol=1e-6)


def test_what_is_kept_is_what_matters() -> None:
    """Tokens of a block are alike: then half of the blocks hold nearly all weight, and the result is nearly exact."""
    generator = torch.Generator().manual_seed(6)
    centres = torch.randn(1, 2, 20, 1, 32, generator=generator).expand(-1, -1, -1, 64, -1)
    near = torch.randn(1, 2, 20, 64, 32, generator=generator)
    q = k = (3.0 * centres + 0.3 * near).flatten(2, 3)
    v = torch.randn(1, 2, 1280, 32, generator=generator)
    exact = reference.attention(q, k, v, dtype=torch.float64)
    for kept in (choose_blocks(q, k, 0.5), choose_blocks(q, k, mass=0.99)):
        found = reference.attention(q, k, v, dtype=torch.float64, block_map=kept)
        assert (found - exact).norm() < 1e-2 * exact.norm()
        others = reference.attention(q, k, v, dtype=torch.float64, block_map=~kept)
        assert (others - exact).norm() > exact.norm()


def test_opcheck() -> None:
    q, k = tokens(7, 130, 200)
    torch.library.opcheck(torch.ops.tadp.block_map.default, (q, k, 0.5))
    torch.library.opcheck(torch.ops.tadp.block_map.default, (q, k), {"mass": 0.5, "query_block": 128})
    assert torch.equal(torch.ops.tadp.block_map(q, k, 0.5, first=1), choose_blocks(q, k, 0.5, first=1))


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 1.5}, "from 0 to 1"),
        ({"mass": -0.1}, "from 0 to 1"),
        ({"query_block": 32}, "64 or 128 queries"),
        ({"k": torch.zeros(2, 1, 64, 32)}, "does not fit"),
        ({"k": torch.zeros(2, 2, 0, 32)}, "does not fit"),
    ],
)
def test_wrong_arguments_are_refused(changes: dict[str, object], message: str, device: str) -> None:
    q, k = tokens(8, 130, 200)
    given = {"q": q, "k": k, "share": 0.5} | changes
    moved = {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in given.items()}
    with pytest.raises(RuntimeError, match=f"tadp: .*{message}"):
        torch.ops.tadp.block_map(**moved)

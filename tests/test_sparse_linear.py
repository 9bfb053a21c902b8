"""SLA against the formulas of its paper in float64, and inside a model."""

import pytest
import torch
from diffusers import WanTransformer3DModel

import tadp
from tadp.kernels.block_map import choose_blocks
from tadp.precision import Role
from tadp.runtime.signals import HasBlockMap
from tadp.sparse_linear import (
    SparseLinearAttention,
    linear_over,
    linear_over_all,
    load_projections,
    use_sparse_linear_attention,
)
from tests.kernels.attention_cases import UNIT, Attention, bound, case
from tests.models import relative_error, tiny_inputs, tiny_transformer

SHARES = (0.05, 0.1, 0.2, 0.5, 1.0)
TOKENS = (450, 130)
"""Eight blocks and three, the last not whole."""


def linear_exactly(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """O_l of the paper (section 4.2), one block of queries after the other, in float64."""
    features, keys, values = q.double().softmax(-1), k.double().softmax(-1), v.double()
    rows = []
    for row, part in enumerate(features.split(64, 2)):
        chosen = blocks[:, :, row].repeat_interleave(64, -1)[..., : k.shape[2], None].double()
        sums = (keys * chosen).transpose(-1, -2) @ values
        total = part @ (keys * chosen).sum(2)[..., None]
        rows.append(part @ sums / (total + 1e-5))
    return torch.cat(rows, 2)


def linear_bound(tokens: int, dim: int, v: torch.Tensor) -> torch.Tensor:
    """Of means of values in float32: sums over tokens and channels, a softmax each of q and k, and a quotient."""
    return (2 * tokens + 4 * dim + 64) * UNIT * v.double().abs().amax((-1, -2), keepdim=True)


def made(seed: int, tokens: int, share: float, negligible: float | None) -> tuple[SparseLinearAttention, Attention]:
    """A module that has learned something, and what it is given."""
    attention = case(seed, 1, 2, tokens, tokens, 32)
    module = SparseLinearAttention(32, share, negligible)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        module.proj_l.weight.copy_(torch.randn(32, 32, generator=generator) / 6)
        module.proj_l.bias.copy_(torch.randn(32, generator=generator) / 6)
    return module, attention


@torch.no_grad()
@pytest.mark.parametrize("negligible", [None, 0.0, 0.1])
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("tokens", TOKENS)
def test_results_are_those_of_the_paper(tokens: int, share: float, negligible: float | None) -> None:
    if (negligible or 0.0) > 1.0 - share:
        negligible = 0.0
    module, given = made(tokens, tokens, share, negligible)
    q, k, v = given.q, given.k, given.v
    found = module(q, k, v).double()
    critical = choose_blocks(q, k, share, diagonal=False)
    assert module.block_map is not None
    assert torch.equal(module.block_map, critical)
    if negligible is None:
        blocks = torch.ones_like(critical)
    elif negligible == 0.0:
        blocks = ~critical
    else:
        least = torch.topk(_pooled(q, k), int(negligible * critical.shape[-1] + 0.5), -1, largest=False).indices
        blocks = ~critical & ~torch.zeros_like(critical).scatter(-1, least, True)
    sparse = Attention(q, k, v, block_map=critical)
    weight, bias = module.proj_l.weight.double(), module.proj_l.bias.double()
    exact = sparse.exact() + linear_exactly(q, k, v, blocks) @ weight.T + bias
    linear = linear_bound(tokens, 32, v) * (weight.abs().sum(1) + 1)
    assert ((found - exact).abs() <= bound(sparse) + linear + 4 * UNIT * exact.abs()).all()


def _pooled(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    rows, columns = (torch.stack([part.double().mean(2) for part in x.split(64, 2)], 2) for x in (q, k))
    return rows @ columns.transpose(-1, -2)


@torch.no_grad()
def test_all_blocks_summed_at_once_are_all_blocks_of_a_map() -> None:
    given = case(1, 2, 2, 200, 200, 32)
    every = torch.ones(2, 2, 4, 4, dtype=torch.bool)
    one, other = linear_over_all(given.q, given.k, given.v), linear_over(given.q, given.k, given.v, every)
    assert ((one - other).abs() <= 2 * linear_bound(200, 32, given.v)).all()
    assert (linear_over(given.q, given.k, given.v, ~every) == 0).all()


@torch.no_grad()
def test_untrained_it_is_sparse_attention() -> None:
    given = case(2, 1, 2, 640, 640, 64, torch.bfloat16)
    module = SparseLinearAttention(64, 0.3)
    kept = choose_blocks(given.q, given.k, 0.3, diagonal=False)
    assert torch.equal(module(given.q, given.k, given.v), torch.ops.tadp.attention(*_qkv(given), block_map=kept))


def _qkv(given: Attention) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return given.q, given.k, given.v


@pytest.mark.parametrize(("share", "negligible"), [(-0.1, None), (1.1, None), (0.6, 0.5), (0.5, -0.1)])
def test_shares_that_are_no_parts_of_one_are_refused(share: float, negligible: float | None) -> None:
    with pytest.raises(ValueError, match="parts of one"):
        SparseLinearAttention(64, share, negligible)


def inputs() -> dict[str, object]:
    generator = torch.Generator().manual_seed(2)
    return tiny_inputs() | {"hidden_states": torch.randn(1, 4, 2, 16, 16, generator=generator).bfloat16()}


def model() -> tuple[WanTransformer3DModel, list[SparseLinearAttention]]:
    transformer = tiny_transformer(2)
    return transformer, use_sparse_linear_attention(transformer, share=1.0)


@torch.no_grad()
def test_in_a_model_all_blocks_give_what_its_own_processor_gives() -> None:
    transformer, modules = model()
    plain = tiny_transformer(2)(**inputs())[0]
    assert all(module.block_map is None for module in modules)
    found = transformer(**inputs())[0]
    # As 8-bit attention in test_compile.py.
    assert 0 < relative_error(found, plain) < 0.02
    assert all(module.block_map is not None and module.block_map.shape == (1, 2, 8, 8) for module in modules)
    assert all(isinstance(module, HasBlockMap) for module in modules)


@torch.no_grad()
def test_projections_are_part_of_the_model_and_loaded_by_any_name() -> None:
    transformer, modules = model()
    assert "blocks.1.attn1.processor.attention.proj_l.weight" in transformer.state_dict()
    plain = transformer(**inputs())[0]
    weights = {"patch_embedding.proj_l.weight": torch.ones(1)}
    for index in range(2):
        name = f"net.blocks.{index}.self_attn.attn_op.local_attn.proj_l"
        weights |= {f"{name}.weight": torch.full((32, 32), index + 1.0), f"{name}.bias": torch.full((32,), 0.5)}
    load_projections(modules, weights)
    assert (modules[1].proj_l.weight == 2).all()
    assert (modules[0].proj_l.bias == 0.5).all()
    assert relative_error(transformer(**inputs())[0], plain) > 0.1
    del weights["net.blocks.1.self_attn.attn_op.local_attn.proj_l.bias"]
    with pytest.raises(ValueError, match=r"block 1 needs one proj_l\.bias of \(32,\), found nothing"):
        load_projections(modules, weights)


def test_cross_attention_is_refused() -> None:
    transformer, _ = model()
    processor = transformer.blocks[0].attn1.processor
    x = torch.zeros(1, 4, 64, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="for self-attention without a mask"):
        processor(transformer.blocks[0].attn1, x, x)


@torch.no_grad()
@pytest.mark.compiles
@pytest.mark.filterwarnings("ignore::tadp.PrecisionFallbackWarning")  # the role of proj_l is not known
def test_compiled_at_any_level_it_stays_what_it_is_and_shows_its_map() -> None:
    transformer = tiny_transformer(3)
    modules = use_sparse_linear_attention(transformer, share=0.5)
    plain = transformer(**inputs())[0]
    for module in modules:
        module.block_map = None
    compiled = tadp.compile(transformer, policy="complexity", precompile=False)
    compiled.tadp.begin(num_steps=4)
    compiled(**inputs())
    for block in compiled.tadp.history[0].signals.blocks:
        assert block["block_map_entropy"] == pytest.approx((2 / 3,))  # log 4 / log 8
    assert all(module.block_map is not None for module in modules)
    results = {}
    for policy in ("static:16", "static:16+attention"):
        compiled.tadp.use(policy)
        compiled.tadp.begin(num_steps=4)
        results[policy] = compiled(**inputs())[0]
        assert relative_error(results[policy], plain) < 0.02
    cross = [row for row in compiled.tadp.layers() if row.role is Role.ATTENTION]
    assert {row.layer.rpartition(".")[2] for row in cross} == {"attn2"}  # that of the operator is the model's own

"""A compiled model at sparse levels of its attention."""

import warnings

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch._dynamo.utils import counters

import tadp
from tadp.precision import L8, Role
from tests.models import relative_error, tiny_inputs, tiny_transformer

pytestmark = pytest.mark.compiles

POLICIES = ("static:16+attention", "static:16+sparse", "static:16+sparse25", "static:16+sparse10", "static:16+mass95")


def inputs() -> dict[str, object]:
    generator = torch.Generator().manual_seed(2)
    return tiny_inputs() | {"hidden_states": torch.randn(1, 4, 5, 16, 16, generator=generator).bfloat16()}


@pytest.fixture(scope="module")
def sparse_model() -> WanTransformer3DModel:
    """Of 1,280 tokens, 20 blocks, compiled for all policies; no warning is given."""
    model = tadp.compile(tiny_transformer(2), policy=POLICIES[0])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", tadp.PrecisionFallbackWarning)
        for policy in POLICIES:
            model.tadp.use(policy)
            model(**inputs())
    return model


@torch.no_grad()
def test_error_grows_with_every_block_left_out_and_switching_compiles_nothing(
    sparse_model: WanTransformer3DModel,
) -> None:
    graphs = counters["stats"]["unique_graphs"], counters["inductor"]["fxgraph_cache_miss"]
    outputs: dict[str, torch.Tensor] = {}
    for _ in range(2):
        for policy in POLICIES:
            sparse_model.tadp.use(policy)
            sparse_model.tadp.begin()
            result = sparse_model(**inputs())[0]
            assert torch.equal(outputs.setdefault(policy, result), result)
    assert (counters["stats"]["unique_graphs"], counters["inductor"]["fxgraph_cache_miss"]) == graphs
    dense, *sparse = outputs.values()
    *by_share, by_mass = [relative_error(result, dense) for result in sparse]
    assert 0 < by_share[0] < by_share[1] < by_share[2] < 0.5
    assert 0 < by_mass < by_share[2]


def test_explain_says_what_is_sparse_and_why_the_rest_is_not(sparse_model: WanTransformer3DModel) -> None:
    sparse_model.tadp.use("static:16+sparse25")
    rows = [row for row in sparse_model.tadp.layers() if row.role is Role.ATTENTION]
    assert [(str(row.level), row.reason) for row in rows if row.layer.endswith("attn1")] == [("sparse25", "")] * 2
    cross = [row for row in rows if row.layer.endswith("attn2")]
    assert [(row.level, row.reason) for row in cross] == [(L8, "only self-attention is made sparse")] * 2
    assert "sparse25" in str(sparse_model.tadp.explain())

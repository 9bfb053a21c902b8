"""8-bit attention on what the embedded model gives it, from the first to the last step of a generation."""

import pytest
from torch.nn.functional import cosine_similarity

from bench.models.model import demo_attention
from tests.kernels.attention_cases import Attention


@pytest.fixture(scope="module")
def products() -> list[Attention]:
    """Self- and cross-attention of all blocks, at four steps and for both guidance branches."""
    return [Attention(q, k, v) for q, k, v in demo_attention(every=7)]


@pytest.mark.generates
def test_errors_on_real_queries_keys_and_values_are_small(products: list[Attention]) -> None:
    assert {product.k.shape[2] for product in products} == {64, 1280}
    assert len(products) == 4 * 2 * 8 * 2 // 7
    for product in products:
        found, exact = product.run().double(), product.exact()
        assert (found - exact).norm() <= 0.03 * exact.norm()
        assert cosine_similarity(found.flatten(), exact.flatten(), 0) >= 0.999

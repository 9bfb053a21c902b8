"""8-bit attention on what the embedded model gives it, from the first to the last step of a generation."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from bench.model import GENERATION, demo_pipeline
from tests.kernels.attention_cases import Attention

STEPS = 4
PROMPT = "a red circle moves left and a small blue square orbits on a gray background"


@pytest.fixture(scope="module")
def products() -> list[Attention]:
    """Every seventh attention product of a generation in bfloat16, self- and cross-attention of all blocks."""
    caught: list[Attention] = []
    calls = 0
    plain: Callable[..., torch.Tensor] = functional.scaled_dot_product_attention

    def spy(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls % 7 == 0 and query.shape[-1] == 64:  # those of the transformer, none of the text encoder
            caught.append(Attention(query.clone(), key.clone(), value.clone(), options.get("attn_mask")))
        return plain(query, key, value, **options)

    pipeline = demo_pipeline()
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(functional, "scaled_dot_product_attention", spy)
        options = {**GENERATION, "num_inference_steps": STEPS}
        pipeline(prompt=PROMPT, generator=torch.Generator().manual_seed(0), **options)
    return caught


def test_errors_on_real_queries_keys_and_values_are_small(products: list[Attention]) -> None:
    assert {product.k.shape[2] for product in products} >= {64, 1280}
    assert len(products) >= 2 * STEPS
    for product in products:
        found, exact = product.run().double(), product.exact()
        assert (found - exact).norm() <= 0.03 * exact.norm()
        assert functional.cosine_similarity(found.flatten(), exact.flatten(), 0) >= 0.999

"""Attention that tadp does not see is told of, not passed over in silence."""

import warnings

import pytest
import torch
from diffusers.models.transformers import transformer_wan

import tadp
from tests.models import tiny_inputs, tiny_transformer

pytestmark = pytest.mark.compiles

MISSED = "the plan asks for attention products below 16 bits, and none was found in the 3 blocks"


def own_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: object) -> torch.Tensor:
    """As a backend of diffusers: ``(batch, tokens, heads, dim)``."""
    q, k, v = (tensor.transpose(1, 2) for tensor in (query, key, value))
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2)


def told(policy: str, model: torch.nn.Module | None = None) -> tuple[list[str], torch.nn.Module]:
    """The warnings of two forwards under a policy."""
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        if model is None:
            model = tadp.compile(tiny_transformer(3), policy=policy, calibration=None)
        else:
            model.tadp.use(policy)
        for _ in range(2):
            model(**tiny_inputs())
    return [str(one.message) for one in caught if one.category is tadp.PrecisionFallbackWarning], model


def test_attention_of_another_backend_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer_wan, "dispatch_attention_fn", own_attention)
    torch._dynamo.reset()
    silent, model = told("static:8")
    assert silent == []
    first, _ = told("static:8+attention", model)
    assert [MISSED in message for message in first] == [True]
    assert 'set_attention_backend("native")' in first[0]
    assert told("static:4+attention", model)[0] == []
    torch._dynamo.reset()


def test_attention_of_torch_is_not() -> None:
    assert told("static:8+attention")[0] == []

"""Guards that were dropped must not be missed: whatever can change under a captured block is still noticed."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch._dynamo.types import GuardFilterEntry

import tadp
from tadp.compiler.guards import guard_filter
from tests.models import relative_error, tiny_inputs, tiny_transformer

pytestmark = pytest.mark.compiles

PLANES = (".low", ".mid", ".high", ".scale")


@pytest.fixture
def compiled() -> Iterator[WanTransformer3DModel]:
    torch._dynamo.reset()
    yield tadp.compile(tiny_transformer(), policy="static:16")
    torch._dynamo.reset()


def test_planes_are_not_guarded_and_weights_are() -> None:
    names: list[str] = []
    kinds: dict[str, set[str]] = {}

    def note(entries: Sequence[GuardFilterEntry]) -> list[bool]:
        names.extend(entry.name for entry in entries)
        return [True] * len(entries)

    def note_kept(entries: Sequence[GuardFilterEntry]) -> list[bool]:
        for entry, kept in zip(entries, guard_filter()(entries), strict=True):
            if kept:
                kinds.setdefault(entry.name, set()).add(entry.guard_type)
        return note(entries)

    torch._dynamo.reset()
    model = tadp.compile(tiny_transformer(), policy="static:8", options={"guard_filter_fn": note_kept})
    model(**tiny_inputs())
    assert any(name.endswith(PLANES) for name in names), "the filter that was asked for was not called"
    assert not any(name.endswith(PLANES) for name in kinds)
    weights = [name for name in kinds if name.endswith("['to_q']._parameters['weight']")]
    assert len(weights) == 2  # self- and cross-attention
    assert all("TENSOR_MATCH" in kinds[name] for name in weights)


def test_a_replaced_function_is_noticed(compiled: WanTransformer3DModel, monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiled(**tiny_inputs())[0]
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda query, *_, **__: query * 0)
    assert not torch.equal(compiled(**tiny_inputs())[0], before)


def test_a_replaced_layer_is_noticed(compiled: WanTransformer3DModel) -> None:
    before = compiled(**tiny_inputs())[0]
    compiled.blocks[1].ffn = torch.nn.Identity()
    after = compiled(**tiny_inputs())[0]
    plain = tiny_transformer()
    plain.blocks[1].ffn = torch.nn.Identity()
    with torch.no_grad():
        expected = plain(**tiny_inputs())[0]
    assert relative_error(after, expected) < 1e-2 < relative_error(before, expected)


def test_hooks_set_later_are_called(compiled: WanTransformer3DModel) -> None:
    compiled(**tiny_inputs())
    called = []
    compiled.blocks[0].register_forward_hook(lambda *_: called.append(True))
    compiled(**tiny_inputs())
    assert called == [True]

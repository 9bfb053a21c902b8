"""What the quantize pass makes of attention at a sparse level, and where it does not make it sparse."""

import copy
import functools

import pytest
import torch
from diffusers import WanTransformer3DModel

from tadp.kernels.block_map import choose_blocks, map_shape
from tadp.passes import quantize
from tadp.passes.attention import CHOOSER, MIN_KEY_BLOCKS, OPERATORS, arguments_of, is_attention
from tadp.passes.decision import Decision
from tadp.precision import L8, L16, Level, Recipe, Role
from tests.models import tiny_inputs, tiny_transformer
from tests.passes.capture import pieces_of

pytestmark = pytest.mark.compiles

SPARSE = Level.parse("sparse25")
TOKENS = 64 * MIN_KEY_BLOCKS


def inputs(tokens: int, text: int = 16) -> dict[str, object]:
    """Of a clip with frames of two rows of 32 tokens."""
    generator = torch.Generator().manual_seed(2)
    return tiny_inputs() | {
        "hidden_states": torch.randn(1, 4, tokens // 64, 2, 32, generator=generator).bfloat16(),
        "encoder_hidden_states": torch.randn(1, text, 32, generator=generator).bfloat16(),
    }


@functools.cache
def block(tokens: int = TOKENS, text: int = 16) -> torch.fx.GraphModule:
    model: WanTransformer3DModel = tiny_transformer(2)
    found, _ = pieces_of(model, inputs(tokens, text))
    return found.pieces[1].graph


def decisions(graph: torch.fx.GraphModule, level: Level = SPARSE) -> list[Decision]:
    found = quantize(graph, Recipe(L16, ((Role.ATTENTION, level),))).decisions
    return [decision for decision in found if decision.role is Role.ATTENTION]


def calls(graph: torch.fx.GraphModule, target: object) -> list[torch.fx.Node]:
    return [node for node in graph.graph.nodes if node.target is target]


@pytest.mark.parametrize("level", ["sparse50", "sparse25", "sparse10", "mass99", "mass90"])
def test_self_attention_is_made_sparse_and_cross_attention_is_not(level: str) -> None:
    recipe = Recipe(L16, ((Role.ATTENTION, Level.parse(level)),))
    graph = quantize(block(), recipe).graph
    first, second = calls(graph, OPERATORS[0])
    assert len(calls(graph, CHOOSER)) == 1
    assert first.args[7] is calls(graph, CHOOSER)[0]
    assert len(second.args) == 7
    number = int(level[-2:]) / 100
    assert calls(graph, CHOOSER)[0].args[2:4] == ((0.0, number) if level.startswith("mass") else (number, 0.0))
    sparse, dense = decisions(block(), Level.parse(level))
    assert (str(sparse.level), sparse.kernel, sparse.reason) == (level, "attention:int8", "")
    assert (dense.level, dense.kernel, dense.reason) == (L8, "attention:int8", "only self-attention is made sparse")
    assert arguments_of(first).q is first.args[0]


def test_the_graph_computes_attention_over_the_chosen_blocks() -> None:
    recipe = Recipe(L16, ((Role.ATTENTION, SPARSE),))
    found = quantize(block(), recipe).graph
    expected = copy.deepcopy(found)
    seen: list[torch.Tensor] = []

    def sparse(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: object) -> torch.Tensor:
        kept = choose_blocks(q, k, 0.25)
        seen.append(kept)
        result: torch.Tensor = torch.ops.tadp.attention(q, k, v, block_map=kept)
        return result

    calls(expected, OPERATORS[0])[0].target = sparse
    expected.recompile()
    generator = torch.Generator().manual_seed(3)
    arguments = [
        torch.randn(node.meta["example_value"].shape, generator=generator).to(node.meta["example_value"].dtype)
        for node in found.graph.find_nodes(op="placeholder")
    ]
    one, other = found(*arguments), expected(*arguments)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert seen[0].shape == map_shape(*(torch.empty(1, 2, TOKENS, 32) for _ in range(2)), 64)
    assert (seen[0].sum(-1) == MIN_KEY_BLOCKS // 4).all()


def test_few_tokens_stay_dense() -> None:
    first, _ = decisions(block(TOKENS - 64))
    assert first.level == L8
    assert first.reason == "attention over 1216 tokens, 19 blocks, is not made sparse: it pays from 20 on"


def test_attention_to_a_text_as_long_as_the_clip_stays_dense() -> None:
    first, second = decisions(block(TOKENS, TOKENS))
    assert first.level == SPARSE
    assert (second.level, second.reason) == (L8, "only self-attention is made sparse")


def changed(**given: object) -> torch.fx.GraphModule:
    """The block with other arguments of its self-attention."""
    graph = copy.deepcopy(block())
    node = next(node for node in graph.graph.nodes if is_attention(node))
    node.kwargs = {**node.kwargs, **given}
    return graph


def test_a_mask_leaves_attention_dense() -> None:
    graph = changed()
    node = next(node for node in graph.graph.nodes if is_attention(node))
    with graph.graph.inserting_before(node):
        mask = graph.graph.call_function(torch.ones, (1, 1, 1, TOKENS), {"dtype": torch.bool})
    mask.meta["example_value"] = torch.ones(1, 1, 1, TOKENS, dtype=torch.bool)
    node.kwargs = {**node.kwargs, "attn_mask": mask}
    first, _ = decisions(graph)
    assert (first.level, first.reason) == (L8, "attention with a mask is not made sparse")


@pytest.mark.parametrize("given", [{"is_causal": True}, {"dropout_p": 0.5}, {"enable_gqa": True}])
def test_what_has_no_dense_kernel_either_stays_at_16_bits(given: dict[str, object]) -> None:
    first, second = decisions(changed(**given))
    assert first.level == L16
    assert "no kernel below 16 bits" in first.reason
    assert second.level == L8

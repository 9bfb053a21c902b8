"""Settling a graph whose sizes are open: passes see numbers, and nothing is asked of the symbols."""

from typing import Any

import pytest
import torch
from torch import fx, nn

from tadp import passes
from tadp.passes import annotate, partition, probe, quantize, settle
from tadp.passes.operations import EXAMPLE
from tadp.passes.partition import Partition
from tadp.passes.probe import Measures
from tadp.passes.symbols import inputs_of, shape_of, symbol_of
from tadp.precision import L6, L8, Recipe, Role
from tadp.runtime.signals import attention_entropy, quantization_error, relative_change
from tests.passes.capture import captured, run_pieces

pytestmark = pytest.mark.compiles


class Block(nn.Module):
    """Reads a stream and a context of another length, and hands on both as one, by a view that is no copy."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        both = torch.cat([x, context], 1)
        mixed = nn.functional.scaled_dot_product_attention(both[:, None], both[:, None], both[:, None])[:, 0]
        return (x + self.down(torch.tanh(self.up(mixed)))[:, : x.shape[1]]).transpose(1, 2).transpose(1, 2)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x, context)
        return x


def inputs(tokens: int, context: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(1, tokens, 32, generator=generator),
        "context": torch.randn(1, context, 32, generator=generator),
    }


def partition_at(tokens: int, context: int) -> Partition:
    graph, _ = captured(Model(), inputs(tokens, context), settle)
    return partition(annotate(graph))


def environment_of(graph: fx.GraphModule) -> Any:
    """Dynamo's, which knows all guards."""
    examples = (node.meta.get(EXAMPLE) for node in graph.graph.find_nodes(op="placeholder"))
    return next(example.node.shape_env for example in examples if isinstance(example, torch.SymInt))


def test_examples_are_numbers_and_say_what_they_stand_for() -> None:
    graph, _ = captured(Model(), inputs(10, 7), settle)
    for node in graph.graph.nodes:
        example = node.meta.get(EXAMPLE)
        assert not isinstance(example, torch.SymInt)
        if isinstance(example, torch.Tensor):
            assert all(isinstance(size, int) for size in (*example.shape, *example.stride()))
    names = {symbol.name for node in inputs_of(graph) if (symbol := symbol_of(node)) is not None}
    assert names == {"x.size()[1]", "context.size()[1]"}
    (stream,) = [node for node in graph.graph.find_nodes(op="placeholder") if node.name == "l_x_"]
    assert stream.meta[EXAMPLE].shape == (1, 10, 32)
    assert not isinstance(shape_of(stream)[1], int)


def test_a_graph_of_fixed_sizes_stays_as_it_is() -> None:
    graph, _ = captured(Model(), inputs(10, 7))
    before = [dict(node.meta) for node in graph.graph.nodes]
    assert settle(graph) is graph
    assert [dict(node.meta) for node in graph.graph.nodes] == before
    assert inputs_of(graph) == []


def test_no_pass_asks_anything_of_sizes() -> None:
    guards: list[int] = []
    measures = Measures({"attention": attention_entropy}, {"rounding": quantization_error}, {"change": relative_change})

    def run_all(graph: fx.GraphModule) -> None:
        environment = environment_of(graph)
        guards.append(len(environment.guards))
        for piece in partition(annotate(settle(graph))).pieces:
            for recipe in (Recipe(), Recipe(L8), Recipe(L6, ((Role.ATTENTION, L8),))):
                quantized = quantize(piece.graph, recipe)
                assert all(decision.tokens in (None, 17) for decision in quantized.decisions)
                assert probe(quantized.graph, measures).stream == 0
        guards.append(len(environment.guards))

    captured(Model(), inputs(10, 7), run_all)
    assert guards[0] == guards[1]


def test_a_structure_is_the_same_whatever_the_sizes_were() -> None:
    first, second = (partition_at(*sizes).pieces for sizes in ((10, 7), (12, 9)))
    assert len({piece.structure for piece in (*first, *second)}) == 1
    assert [passes.sizes_of(piece.graph) for piece in (first[0], second[0])] == [(10, 7), (12, 9)]


def test_pieces_compute_what_the_model_does_at_other_sizes() -> None:
    found = partition_at(10, 7)
    model, given = Model(), inputs(5, 3)
    _, arguments = captured(model, given, settle)
    with torch.no_grad():
        torch.testing.assert_close(run_pieces(found, arguments)[0], model(**given))


def test_examples_can_be_those_of_other_sizes() -> None:
    piece = partition_at(10, 7).pieces[0]
    other = passes.at_sizes(piece.graph, (20, 5))
    (tokens,) = {decision.tokens for decision in quantize(other, Recipe(L8)).decisions if decision.tokens}
    assert tokens == 25
    assert passes.sizes_of(other) == (20, 5)
    assert passes.sizes_of(piece.graph) == (10, 7)
    assert passes.sizes_of(passes.closed(other)) == ()


class Handing(nn.Module):
    """The blocks before and after one are handed a fraction of a size."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Model(), Model()])
        self.last = nn.Linear(32, 32)

    def forward(self, x: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        part = x.shape[1] / 3
        for block in self.blocks:
            x = block(x, context) * part
        return self.last(x) * part


def test_a_fraction_of_a_size_never_becomes_a_constant() -> None:
    graph, _ = captured(Handing(), inputs(10, 7), settle)
    with pytest.raises(passes.UnknownSizesError, match="is handed from piece to piece"):
        partition(annotate(graph))

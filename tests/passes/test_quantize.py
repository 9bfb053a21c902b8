import copy
import functools
import importlib

import pytest
import torch

from tadp.kernels import BitPlaneWeight, reference, registry
from tadp.kernels.rotation import rotate
from tadp.passes import Measures, probe, quantize
from tadp.passes.attention import OPERATORS, is_attention
from tadp.passes.decision import Decision
from tadp.passes.operations import ATTENTION, EXAMPLE, is_linear
from tadp.passes.quantize import rotate_and_quantize
from tadp.precision import ITSELF, L4, L6, L8, L16, MASTER, Level, Part, Recipe, Role
from tests.kernels.cases import tokens_with_outliers
from tests.models import tiny_inputs, tiny_transformer
from tests.passes.capture import pieces_of

pytestmark = pytest.mark.compiles

pass_module = importlib.import_module("tadp.passes.quantize")  # the package's name of it is the function

LINEAR = torch.ops.tadp.linear.default
QUANTIZE = torch.ops.tadp.quantize.default


@functools.cache
def _block() -> torch.fx.GraphModule:
    """One captured block for all tests, as quantizing leaves it as it was."""
    found, _ = pieces_of(tiny_transformer(2), tiny_inputs())
    return found.pieces[1].graph


def _count(graph: torch.fx.GraphModule, target: object) -> int:
    return sum(node.target is target for node in graph.graph.nodes)


def test_every_linear_is_quantized_and_shared_inputs_are_quantized_once() -> None:
    quantized = quantize(_block(), Recipe(L8))
    assert _count(quantized.graph, LINEAR) == 10
    # q, k, v of the self-attention share one input, k and v of the cross-attention another
    assert _count(quantized.graph, QUANTIZE) == 7


def test_a_width_reads_only_its_planes() -> None:
    parts = {level: {source.part for source in quantize(_block(), Recipe(level)).sources} for level in (L8, L6, L4)}
    assert parts[L8] == {ITSELF, *map(Part, ("high", "mid", "low", "scale"))}
    assert parts[L6] == {ITSELF, *map(Part, ("high", "mid", "scale"))}
    assert parts[L4] == {ITSELF, *map(Part, ("high", "scale"))}


def test_at_16_bits_the_graph_is_the_original_on_masters() -> None:
    block = _block()
    quantized = quantize(block, Recipe(L16))
    assert _count(quantized.graph, LINEAR) == 0
    assert sum(source.part == MASTER for source in quantized.sources) == 10
    assert {source.index for source in quantized.sources} == set(range(len(quantized.sources)))


def test_roles_get_their_own_levels() -> None:
    recipe = Recipe(L8, ((Role.FFN_UP, L4), (Role.SELF_ATTN_QKV, L16)))
    levels = {decision.layer: decision.level for decision in quantize(_block(), recipe).decisions}
    assert levels["blocks.0.ffn.net.0.proj"] == L4
    assert levels["blocks.0.attn1.to_k"] == L16
    assert levels["blocks.0.attn2.to_k"] == L8


def test_weight_only_levels_leave_activations_alone() -> None:
    quantized = quantize(_block(), Recipe(Level.parse("w8a16")))
    assert _count(quantized.graph, QUANTIZE) == 0
    assert _count(quantized.graph, torch.ops.tadp.weight_only_linear.default) == 10


def test_a_gelu_becomes_part_of_the_product() -> None:
    graph = quantize(_block(), Recipe(L8)).graph.graph
    assert not any("gelu" in str(node.target) for node in graph.nodes)
    names = [node.args[9] for node in graph.find_nodes(op="call_function", target=LINEAR)]
    assert names.count("gelu_tanh") == 1
    assert names.count("none") == 9
    assert any("gelu" in str(node.target) for node in quantize(_block(), Recipe(L16)).graph.graph.nodes)


def test_a_measured_kernel_is_taken_where_it_serves() -> None:
    block = _block()
    measured = quantize(block, Recipe(L8), lambda request, device, offered: "weight_only_linear:dequantize")
    assert _count(measured.graph, LINEAR) == 0
    assert _count(measured.graph, torch.ops.tadp.weight_only_linear.default) == 10
    unknown = quantize(block, Recipe(L8), lambda request, device, offered: "linear:of another device")
    assert _count(unknown.graph, LINEAR) == 10


def test_values_come_before_weights_in_the_order_of_the_sources() -> None:
    quantized = quantize(_block(), Recipe(L8, ((Role.FFN_UP, L4),)))
    kinds = [source.part == ITSELF for source in quantized.sources]
    assert kinds == sorted(kinds, reverse=True)
    assert len(kinds) == len(quantized.graph.graph.find_nodes(op="placeholder"))


def test_the_piece_is_left_as_it_was() -> None:
    block = _block()
    before = block.code
    quantize(block, Recipe(L4))
    assert block.code == before


def test_what_no_kernel_serves_stays_at_16_bits_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "KERNELS", {})
    recipe = Recipe(L8, ((Role.ATTENTION, L8),))
    quantized = quantize(_block(), recipe)
    assert {decision.level for decision in quantized.decisions} == {L16}
    reasons = {decision.reason for decision in quantized.decisions}
    assert reasons == {"a linear at level 8 has no kernel on cpu", "attention has no kernel on cpu"}
    assert all(source.part in (ITSELF, MASTER) for source in quantized.sources)


def test_graphs_name_their_kernels() -> None:
    graph = quantize(_block(), Recipe(L8, ((Role.ATTENTION, L8),))).graph
    for target, place in ((torch.ops.tadp.linear.default, 10), (OPERATORS[0], 6)):
        assert {node.args[place] for node in graph.graph.find_nodes(op="call_function", target=target)} == {"int8"}


def test_a_registered_kernel_runs_in_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "KERNELS", dict(registry.KERNELS))
    toys = (("linear", reference.linear), ("attention", reference.attention))
    for operator, run in toys:
        registry.register(registry.Kernel("toy", operator, "cpu", lambda request: None, run))
    quantized = quantize(_block(), Recipe(L8, ((Role.ATTENTION, L8),)))
    assert {decision.kernel for decision in quantized.decisions} == {"linear:toy", "attention:toy"}
    assert _count(quantized.graph, torch.ops.tadp.registered_linear.default) > 0
    assert _count(quantized.graph, torch.ops.tadp.registered_attention.default) == 2


ATTENTION_AT_8 = Recipe(L16, ((Role.ATTENTION, L8),))


def _attention_decisions(recipe: Recipe, **changed: object) -> list[Decision]:
    """Of a block whose attention products are given other arguments."""
    block = copy.deepcopy(_block())
    for node in block.graph.nodes:
        if is_attention(node):
            node.kwargs = {**node.kwargs, **changed}
    return [decision for decision in quantize(block, recipe).decisions if decision.role is Role.ATTENTION]


def test_attention_is_rewritten_where_the_recipe_says_so() -> None:
    graph = quantize(_block(), ATTENTION_AT_8).graph
    assert _count(graph, OPERATORS[0]) == 2
    assert _count(graph, LINEAR) == 0
    assert not any(node.target in ATTENTION for node in graph.graph.nodes)
    for recipe in (Recipe(L8), Recipe(L4), Recipe()):
        assert _count(quantize(_block(), recipe).graph, OPERATORS[0]) == 0
    levels = [(decision.level, decision.kernel) for decision in _attention_decisions(ATTENTION_AT_8)]
    assert levels == [(L8, "attention:int8")] * 2


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"dropout_p": 0.1}, "dropout"), ({"is_causal": True}, "causal"), ({"enable_gqa": True}, "heads in groups")],
)
def test_attention_that_no_kernel_takes_stays_at_16_bits_with_a_reason(changed: dict[str, object], reason: str) -> None:
    decisions = _attention_decisions(ATTENTION_AT_8, **changed)
    assert [decision.level for decision in decisions] == [L16, L16]
    assert all(reason in decision.reason for decision in decisions)


def test_attention_has_no_weights_to_round() -> None:
    recipe = Recipe(L16, ((Role.ATTENTION, Level.parse("w8a16")),))
    assert all("no weights" in decision.reason for decision in _attention_decisions(recipe))


def test_a_probe_measures_attention_at_either_level() -> None:
    def nothing(*_: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 1)

    measures = Measures({"attention": nothing}, {"moments": nothing, "rounding": nothing}, {"change": nothing})
    recipes = (Recipe(L8), Recipe(L8, ((Role.ATTENTION, L8),)))
    readings = [probe(quantize(_block(), recipe).graph, measures).readings for recipe in recipes]
    assert readings[0] == readings[1]
    assert sum(reading.signal == "attention" for reading in readings[0]) == 1


def test_on_gpus_a_compiler_sees_what_the_quantizer_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pass_module.quantizer(torch.device("cpu")) is QUANTIZE
    plain = pass_module.quantizer(torch.device("cuda"))
    monkeypatch.setattr(pass_module, "quantizer", lambda device: plain)
    graph = quantize(_block(), Recipe(L8)).graph
    assert _count(graph, QUANTIZE) == 0
    assert _count(graph, plain) == 7
    ones = torch.ones_like
    readings = probe(graph, Measures({"attention": ones}, {"moments": ones}, {"change": ones})).readings
    assert sum(reading.signal == "moments" for reading in readings) == 7


@pytest.mark.parametrize("groups", [0, 1])
def test_inductor_quantizes_as_the_operator_does_but_at_ties(groups: int) -> None:
    """Inductor may divide and multiply in another way, so a value within a rounding of a tie may go either way."""
    x = tokens_with_outliers(0, (7, 64), torch.bfloat16)
    codes, scale, total = torch.ops.tadp.quantize(x, groups)
    found = torch.compile(reference.quantize, fullgraph=True)(x, groups)
    steps = 127 * x.double() / x.double().abs().amax(-1, keepdim=True)
    at_tie = ((steps.abs() % 1 - 0.5).abs() < 4 * 127 * 2.0**-24) & steps.isfinite()
    assert (found[0] == codes)[~at_tie].all()
    assert (found[0].int() - codes.int()).abs().max() <= 1
    torch.testing.assert_close(found[1], scale, rtol=2.0**-22, atol=0)
    assert torch.equal(found[2], reference.sum_codes(found[0], groups))
    assert found[2].shape == total.shape


def test_a_mixed_level_reads_all_planes_and_the_widths_of_channels() -> None:
    quantized = quantize(_block(), Recipe(Level.parse("6m")))
    parts = {source.part for source in quantized.sources}
    assert parts == {ITSELF, *map(Part, ("high", "mid", "low", "scale")), Part("widths", 6)}
    nodes = quantized.graph.graph.find_nodes(op="call_function", target=LINEAR)
    assert {str(node.args[11]).rpartition("_widths_")[2] for node in nodes} == {"6"}
    assert {str(decision.level) for decision in quantized.decisions if decision.shape} == {"6m"}
    assert quantize(_block(), Recipe(L6)).decisions[0].weight_bytes == quantized.decisions[0].weight_bytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_compiler_sees_through_rotations(dtype: torch.dtype) -> None:
    x = tokens_with_outliers(0, (7, 512)).to(dtype)
    x = x[x.any(-1)]
    codes, scale, total = torch.compile(rotate_and_quantize, fullgraph=True)(x, 0, 256)
    # The product adds 256 numbers in any order, in float32, and is rounded to the type; so is the peak, and the rest
    # takes four roundings.
    exact = rotate(x.double(), 256)
    added = 256 * 2.0**-24 * x.double().abs().unflatten(-1, (2, 256)).sum(-1).repeat_interleave(256, -1)
    off = added + (2.0**-8 if dtype == torch.bfloat16 else 0) * exact.abs()
    peak = exact.abs().amax(-1, keepdim=True)
    relative = (off.amax(-1, keepdim=True) / peak) + 4 * 2.0**-24
    steps = 127 * exact / peak
    assert ((codes - steps).abs() <= 0.5 + 127 * off / peak + steps.abs() * relative).all()
    assert ((scale.double() * 127 / peak.squeeze(-1) - 1).abs() <= relative.squeeze(-1)).all()
    assert torch.equal(total, codes.sum(-1, dtype=torch.int32))


def test_layers_of_one_input_share_its_rotation() -> None:
    rotated = copy.deepcopy(_block())
    for node in rotated.graph.find_nodes(op="placeholder"):
        if any(is_linear(user) and user.args[1] is node for user in node.users):
            weight = node.meta[EXAMPLE]
            node.meta[EXAMPLE] = BitPlaneWeight.from_hp(torch.zeros(weight.shape, dtype=weight.dtype), rotation=64)
    codes = quantize(rotated, Recipe(L8))
    assert _count(codes.graph, QUANTIZE) == 7
    assert all(node.args[2] == 64 for node in codes.graph.graph.nodes if node.target is QUANTIZE)
    floats = quantize(rotated, Recipe(Level.parse("w8a16")))
    assert _count(floats.graph, torch.ops.tadp.rotate.default) == 7

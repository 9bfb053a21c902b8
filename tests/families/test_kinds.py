"""Habits of blocks: however they are kept, called and left, every layer follows the policy or says why it does not."""

import warnings

import pytest
import torch
from torch._dynamo.utils import counters

import tadp
from tadp.families.family import plain_name
from tadp.precision import Role
from tests.families import original_wan
from tests.families.kinds import ALL, CallsOtherMethods, Model, SharesALinear
from tests.models import relative_error

pytestmark = pytest.mark.compiles

POLICIES = ("static:16", "static:8", "static:4")
INPUTS = (torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([500.0, 500.0]))


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.usefixtures("uncompiled")
def test_every_habit_follows_the_policy(kind: type[Model]) -> None:
    with torch.no_grad():
        reference = kind().eval()(*INPUTS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compiled = tadp.compile(kind().eval(), policy="static:16")
        errors = {}
        for policy in POLICIES:
            compiled.tadp.use(policy)
            errors[policy] = relative_error(compiled(*INPUTS), reference)
    assert errors["static:16"] < 1e-5
    assert 0 < errors["static:8"] < 0.1
    assert errors["static:4"] > errors["static:8"]
    captured = counters["stats"]["unique_graphs"]
    for policy in POLICIES:
        compiled.tadp.use(policy)
        compiled(*INPUTS)
    assert counters["stats"]["unique_graphs"] == captured
    linears = {row.layer: row for row in compiled.tadp.layers() if row.role is not Role.ATTENTION}
    inside = tuple(f"{block}." for block in compiled.tadp.blocks)
    expected = {  # layers are called as they are without what wraps them
        plain_name(name)
        for name, module in compiled.named_modules(remove_duplicate=False)
        if isinstance(module, torch.nn.Linear) and name.startswith(inside)
    }
    assert {layer for layer, row in linears.items() if row.piece in compiled.tadp.blocks} == expected
    at_16 = {layer for layer in expected if str(linears[layer].level) == "16"}
    told = "\n".join(str(item.message) for item in caught if item.category is tadp.PrecisionFallbackWarning)
    shared = {"blocks.0.attn.to_q", "blocks.1.attn.to_q"}
    assert at_16 == (shared if kind is SharesALinear else set())
    for layer in at_16:
        assert "shared" in linears[layer].reason
        assert f"{layer} stays at 16 bits: its weight is shared" in told


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.usefixtures("uncompiled")
def test_every_habit_takes_shapes_of_any_size(kind: type[Model]) -> None:
    plain, compiled = kind().eval(), tadp.compile(kind().eval(), policy="static:16")
    captured = []
    for tokens in (16, 24, 40, 20):
        given = torch.randn(2, tokens, 8, generator=torch.Generator().manual_seed(tokens)), INPUTS[1]
        for policy, bound in (("static:16", 1e-5), ("static:8", 0.1)):
            compiled.tadp.use(policy)
            with torch.no_grad():
                assert relative_error(compiled(*given), plain(*given)) < bound, (tokens, policy)
        captured.append(counters["stats"]["unique_graphs"])
    assert captured[0] < captured[1] == captured[2] == captured[3]


@pytest.mark.usefixtures("uncompiled")
def test_the_original_wan_model_in_activation_checkpointing_is_followed() -> None:
    with torch.no_grad():
        reference = original_wan.WanModel().eval()(**original_wan.inputs())
    compiled = tadp.compile(original_wan.WanModel().eval(), policy="static:16")
    assert relative_error(compiled(**original_wan.inputs()), reference) < 1e-5
    compiled.tadp.use("static:8")
    assert 0 < relative_error(compiled(**original_wan.inputs()), reference) < 0.1
    roles = {row.layer: row.role for row in compiled.tadp.layers() if row.piece == "blocks.1"}
    assert roles["blocks.1.self_attn.q"] is Role.SELF_ATTN_QKV
    assert roles["blocks.1.cross_attn.k"] is Role.CROSS_ATTN_KV
    assert roles["blocks.1.ffn.2"] is Role.FFN_DOWN
    assert {str(row.level) for row in compiled.tadp.layers() if row.piece == "blocks.1" and row.shape} == {"8"}
    assert [record.timestep for record in compiled.tadp.history] == [900.0, 900.0]


@pytest.mark.usefixtures("uncompiled")
def test_a_model_of_which_nothing_is_captured_says_so_once() -> None:
    with torch.no_grad():
        reference = CallsOtherMethods().eval()(*INPUTS)
    compiled = tadp.compile(CallsOtherMethods().eval(), policy="static:4")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert relative_error(compiled(*INPUTS), reference) < 1e-5
    told = [str(item.message) for item in caught if item.category is tadp.PrecisionFallbackWarning]
    assert sum("nothing of the 2 blocks was captured" in message for message in told) == 1
    assert sum("torch.compile did not capture the code that calls it" in message for message in told) == 12

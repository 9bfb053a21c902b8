"""Declarations of families: each is true of the tiny models of its classes."""

import inspect

import pytest
import torch
from torch import nn

from tadp.compiler.layers import block_linears
from tadp.demo.tiny import Tiny, all_tiny
from tadp.families import FAMILIES, GENERIC, Family, component_dtypes, family_of, register
from tadp.families.blocks import block_paths
from tadp.families.family import plain_name
from tadp.precision import Role

KNOWN = {tiny.name: tiny for tiny in all_tiny()}
DECLARED = [(family, KNOWN[name]) for family in FAMILIES for name in family.classes if name in KNOWN]


@pytest.mark.parametrize(("family", "tiny"), DECLARED, ids=[tiny.name for _, tiny in DECLARED])
def test_a_declaration_names_every_layer_and_the_timestep(family: Family, tiny: Tiny) -> None:
    model = tiny.model()
    assert family_of(model) is family
    assert set(family.timestep) & set(inspect.signature(model.forward).parameters)
    assert any(path.rpartition(".")[0] in family.blocks for path in block_paths(model, family))
    bare = Family(family.name, roles=family.roles, stays_at_16=family.stays_at_16)
    for linear in block_linears(model, family):
        name = plain_name(linear.layer[len(linear.block) + 1 :])
        assert bare.declared_role(name) is not None or bare.reason_at_16(name), f"{linear.layer} has no declared role"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_family_is_tried_on_a_class_of_its_own(family: Family) -> None:
    assert set(family.classes) & set(KNOWN)


def test_no_class_is_declared_twice() -> None:
    names = [name for family in FAMILIES for name in family.classes]
    assert len(names) == len(set(names))


class _Mine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))])


def test_a_class_of_ones_own_is_declared_by_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tadp.families.FAMILIES", list(FAMILIES))
    mine = register(
        Family("mine", ("_Mine",), ("trunk",), {"0": Role.FFN_UP, "1": Role.FFN_DOWN}, stays_at_16={"1": "it is small"})
    )
    model = type("Derived", (_Mine,), {})()
    assert family_of(model) is mine
    assert block_paths(model, mine) == ("trunk.0",)
    assert mine.role("0", 8, 8) is Role.FFN_UP
    assert [linear.reason for linear in block_linears(model)] == ["", "it is small"]


def test_a_family_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="names no classes"):
        register(Family("nobody"))


def test_autoencoders_of_wan_stay_in_float32() -> None:
    assert component_dtypes("WanImageToVideoPipeline") == {"vae": "float32"}
    assert component_dtypes("FluxPipeline") == {}


def test_what_nobody_declared_is_generic() -> None:
    assert family_of(nn.Linear(2, 2)) is GENERIC


@pytest.mark.parametrize("wrapped", ["attn.to_q.base_layer", "_checkpoint_wrapped_module.attn.to_q", "attn.to_q"])
def test_wrappers_do_not_hide_names(wrapped: str) -> None:
    assert GENERIC.role(wrapped, 8, 8) is Role.SELF_ATTN_QKV


def test_nothing_is_packed_that_cannot_be() -> None:
    model = _Mine()
    model.trunk[0][0].weight.data[0, 0] = torch.nan
    reasons = {linear.layer: linear.reason for linear in block_linears(model, Family("x", ("_Mine",), ("trunk",)))}
    assert reasons == {
        "trunk.0.0": "neither its name nor its shape tells its role",
        "trunk.0.1": "neither its name nor its shape tells its role",
    }

"""Roles whose columns are rotated before they are rounded."""

from dataclasses import replace

import pytest
import torch

import tadp
from tadp.compiler.layers import block_linears
from tadp.compiler.rotating import UNMEASURED, measured_roles, roles_of
from tadp.files.fingerprint import calibration_key, fingerprint
from tadp.kernels import BitPlaneWeight
from tadp.kernels.bitplanes import pack_linear_
from tadp.precision import Role
from tests.calibrations import FOUND
from tests.models import relative_error, tiny_inputs, tiny_transformer


def test_roles_are_named_as_everywhere() -> None:
    assert roles_of(("ffn.down", Role.SELF_ATTN_QKV)) == {Role.FFN_DOWN, Role.SELF_ATTN_QKV}
    assert roles_of("ffn.up") == {Role.FFN_UP}
    assert roles_of(()) == frozenset()
    for wrong in ("ffn", "attention", "head"):
        with pytest.raises(ValueError, match=rf"role '{wrong}'; roles are .*ffn\.down"):
            roles_of((wrong,))


def test_a_calibration_that_looked_decides() -> None:
    assert measured_roles(None) == measured_roles(FOUND) == UNMEASURED == {Role.FFN_DOWN}
    assert measured_roles(replace(FOUND, rotated=())) == frozenset()
    assert measured_roles(replace(FOUND, rotated=(Role.FFN_UP,))) == {Role.FFN_UP}


@pytest.mark.compiles
def test_layers_of_the_roles_are_rotated_and_give_what_packed_layers_give() -> None:
    eager, model = tiny_transformer(2), tiny_transformer(2)
    rotated = (Role.FFN_DOWN, Role.SELF_ATTN_QKV)
    for linear in block_linears(eager):
        pack_linear_(linear.module, rotation=64 if linear.role in rotated else 0)
    with torch.no_grad():
        expected = eager(**tiny_inputs())[0]
    tadp.compile(model, policy="static:8", rotate=rotated)
    assert relative_error(model(**tiny_inputs())[0], expected) < 1e-2
    packing = {row.packing for row in model.tadp.layers() if row.role in rotated}
    assert packing == {"rotated by 64"}
    assert {row.packing for row in model.tadp.layers() if row.role not in rotated} == {""}
    assert "rotated by 64" in str(model.tadp.explain())
    model.tadp.use("static:w8a16")
    assert relative_error(model(**tiny_inputs())[0], expected) < 0.05
    model.tadp.use("static:16")
    with torch.no_grad():
        assert relative_error(model(**tiny_inputs())[0], tiny_transformer(2)(**tiny_inputs())[0]) < 1e-2
    with pytest.raises(ValueError, match="rotated when it is compiled"):
        tadp.compile(model, rotate=())


@pytest.mark.compiles
@pytest.mark.parametrize(("options", "rotated"), [({}, {Role.FFN_DOWN}), ({"rotate": None}, set())])
def test_by_default_what_follows_an_activation_function_is(options: dict[str, None], rotated: set[Role]) -> None:
    model = tiny_transformer(2)
    tadp.compile(model, policy="static:8", **options)
    assert {linear.role for linear in block_linears(model) if _rotation(linear.module)} == rotated


@pytest.mark.compiles
def test_what_calibration_found_to_gain_is_rotated() -> None:
    model = tiny_transformer(2)
    found = replace(FOUND, key=calibration_key({"transformer": fingerprint(model)}, {}), rotated=(Role.CROSS_ATTN_OUT,))
    tadp.compile(model, policy="static:8", calibration=found)
    assert {linear.role for linear in block_linears(model) if _rotation(linear.module)} == {Role.CROSS_ATTN_OUT}


def _rotation(module: torch.nn.Linear) -> int:
    assert isinstance(module.weight, BitPlaneWeight)
    return module.weight.rotation

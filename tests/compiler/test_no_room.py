"""Blocks whose 16-bit weights find no room run at weights of 8 bits, and say so."""

import warnings

import pytest
import torch
from diffusers import WanTransformer3DModel

import tadp
from tadp.precision import L16, W8A16
from tadp.runtime.pool import Masters
from tests.models import tiny_inputs, tiny_transformer

pytestmark = pytest.mark.compiles


class Crowded:
    """Masters of which some do not fit.

    Attributes:
        full: whether none fits that is asked for from here on.
    """

    def __init__(self, inner: Masters) -> None:
        self.inner, self.full = inner, False

    def holds(self, key: str) -> bool:
        return self.inner.holds(key)

    def get(self, key: str, device: torch.device) -> torch.Tensor:
        if self.full and key.startswith("blocks.1."):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner.get(key, device)


def told(model: WanTransformer3DModel) -> tuple[torch.Tensor, list[str]]:
    """A forward of a new generation, and what it warns of."""
    model.tadp.begin()
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        result = model(**tiny_inputs())[0]
    return result, [str(one.message) for one in caught if one.category is tadp.PrecisionFallbackWarning]


def test_a_block_without_room_runs_at_w8a16_until_there_is_some() -> None:
    model = tadp.compile(tiny_transformer(3), policy="static:16", calibration=None)
    masters = model.tadp._pool._masters = Crowded(model.tadp._pool._masters)
    exact, quiet = told(model)
    assert quiet == []
    masters.full = True
    model.tadp.use("static:8")
    told(model)  # lets go of all masters
    model.tadp.use("static:16")
    crowded, messages = told(model)
    assert messages == ["blocks.1 runs at w8a16: the device has no room for its 16-bit weights"]
    levels = {row.piece: row.level for row in model.tadp.layers() if row.layer.endswith("ffn.net.2")}
    assert levels == {"blocks.0": L16, "blocks.1": W8A16, "blocks.2": L16}
    reasons = {row.reason for row in model.tadp.layers() if row.piece == "blocks.1" and row.level == W8A16}
    assert reasons == {"the device has no room for its 16-bit weights"}
    assert model.tadp.history[-1].plan["blocks.1"].default == W8A16
    assert model.tadp.history[-1].plan["blocks.2"].default == L16
    model.tadp.use("fixed:blocks.0=16,blocks.1=w8a16,blocks.2=16")
    assert torch.equal(told(model)[0], crowded)
    masters.full = False
    model.tadp.use("static:16")
    again, messages = told(model)
    assert messages == []
    assert torch.equal(again, exact)
    assert {row.level for row in model.tadp.layers() if row.layer.endswith("ffn.net.2")} == {L16}


def test_memory_that_runs_out_elsewhere_is_raised() -> None:
    model = tadp.compile(tiny_transformer(2), policy="static:8", calibration=None)
    told(model)
    (dispatcher,) = model.tadp._dispatchers[:1]

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    dispatcher._bind_variant = full
    dispatcher.forget_weights()
    with pytest.raises(torch.OutOfMemoryError), torch.no_grad():
        model(**tiny_inputs())

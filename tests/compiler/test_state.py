"""State dicts, copies and pickles of compiled models."""

import copy
import io
import pickle  # noqa: TID251  people do
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel

import tadp
from tadp.errors import PrecisionFallbackWarning
from tadp.kernels import BitPlaneWeight
from tadp.runtime.pool import RESTORED
from tests.models import relative_error, tiny_inputs, tiny_transformer

pytestmark = pytest.mark.compiles

LAYER = "blocks.0.ffn.net.2.weight"


def _run(model: torch.nn.Module) -> torch.Tensor:
    return model(**tiny_inputs())[0]


def _other(seed: int = 5) -> WanTransformer3DModel:
    model = tiny_transformer(2)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator).to(parameter.dtype), alpha=0.02)
    return model


@pytest.fixture
def compiled() -> WanTransformer3DModel:
    return tadp.compile(tiny_transformer(2), policy="static:8")


def test_a_state_dict_goes_through_a_file_and_back(compiled: WanTransformer3DModel) -> None:
    expected = _run(compiled)
    file = io.BytesIO()
    torch.save(compiled.state_dict(), file)  # noqa: TID251  likewise
    file.seek(0)
    state = torch.load(file, weights_only=True)  # noqa: TID251
    other = tadp.compile(_other(), policy="static:8")
    assert not torch.equal(_run(other), expected)
    other.load_state_dict(state)
    assert torch.equal(_run(other), expected)
    state[LAYER].high.zero_()  # the state dict was copied
    assert torch.equal(_run(other), expected)


@pytest.mark.parametrize("assign", [False, True])
def test_plain_weights_are_packed_and_become_masters(compiled: WanTransformer3DModel, assign: bool) -> None:
    _run(compiled)
    source = _other()
    compiled.load_state_dict(source.state_dict(), assign=assign)
    reference = tadp.compile(_other(), policy="static:8")
    for policy in ("static:8", "static:16"):
        compiled.tadp.use(policy)
        reference.tadp.use(policy)
        assert torch.equal(_run(compiled), _run(reference))
    assert not any(row.reason == RESTORED for row in compiled.tadp.layers())


def test_packed_weights_have_no_masters(compiled: WanTransformer3DModel) -> None:
    state = tadp.compile(_other(), policy="static:8").state_dict()
    compiled.load_state_dict({LAYER: state[LAYER]}, strict=False)
    compiled.tadp.use("static:16")
    _run(compiled)
    reasons = {row.layer: row.reason for row in compiled.tadp.layers() if row.piece.startswith("blocks")}
    assert reasons[LAYER.removesuffix(".weight")] == RESTORED
    assert list(reasons.values()).count(RESTORED) == 1


def test_a_refusal_changes_nothing(compiled: WanTransformer3DModel) -> None:
    expected = _run(compiled)
    state = _other().state_dict()
    short = {name: tensor for name, tensor in state.items() if name != LAYER}
    with pytest.raises(RuntimeError, match=f"left as it was: missing {LAYER}"):
        compiled.load_state_dict(short)
    with pytest.raises(RuntimeError, match="unexpected more"):
        compiled.load_state_dict({**state, "more": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r"is \(2, 2\), not \(64, 128\)"):
        compiled.load_state_dict({**state, LAYER: torch.zeros(2, 2)}, strict=False)
    with pytest.raises(ValueError, match=f"{LAYER}.*NaN.*left as it was"):
        compiled.load_state_dict({**state, LAYER: torch.full((64, 128), torch.nan)})
    assert torch.equal(_run(compiled), expected)
    keys = compiled.load_state_dict({**short, "more": torch.zeros(1)}, strict=False)
    assert (keys.missing_keys, keys.unexpected_keys) == ([LAYER], ["more"])


def test_a_copy_has_a_controller_of_its_own(compiled: WanTransformer3DModel) -> None:
    expected = _run(compiled)
    other = copy.deepcopy(compiled)
    assert type(other) is not type(compiled)
    assert isinstance(other, WanTransformer3DModel)
    assert other.tadp is not compiled.tadp
    assert torch.equal(_run(other), expected)
    other.tadp.use("static:16")
    exact = _run(tadp.compile(tiny_transformer(2), policy="static:16"))
    assert torch.equal(_run(other), exact)  # it shares the masters
    assert str(compiled.tadp.policy) == "static:8"
    assert torch.equal(_run(compiled), expected)
    with torch.no_grad():
        other.blocks[0].scale_shift_table.zero_()
    assert torch.equal(_run(compiled), expected)


def test_a_pickle_holds_the_packed_model(compiled: WanTransformer3DModel) -> None:
    expected = _run(compiled)
    other = pickle.loads(pickle.dumps(compiled))
    assert torch.equal(_run(other), expected)
    other.tadp.use("static:16")
    _run(other)
    assert any(row.reason == RESTORED for row in other.tadp.layers())


def test_a_state_dict_at_16_bits_says_that_it_is_not(compiled: WanTransformer3DModel) -> None:
    compiled.tadp.use("static:16")
    with pytest.warns(PrecisionFallbackWarning, match=r"tadp\.restore"):
        state = compiled.state_dict()
    assert isinstance(state[LAYER], BitPlaneWeight)


def test_restore_gives_back_the_model_as_it_was() -> None:
    model, reference = tiny_transformer(2), tiny_transformer(2)
    kind, expected = type(model), _run(reference)
    tadp.compile(model, policy="static:8")
    _run(model)
    assert tadp.restore(model) is model
    assert type(model) is kind
    assert not hasattr(model, "tadp")
    state, original = model.state_dict(), reference.state_dict()
    assert state.keys() == original.keys()
    assert all(torch.equal(tensor, original[name]) for name, tensor in state.items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(_run(model), expected)
    with pytest.raises(ValueError, match="nothing to restore"):
        tadp.restore(model)
    tadp.compile(model, policy="static:8")
    assert relative_error(_run(model), expected) < 0.05


def test_states_that_lack_planes_are_refused(compiled: WanTransformer3DModel, tmp_path: Path) -> None:
    tadp.save(compiled, tmp_path)
    narrow = tadp.load(tmp_path, policy="static:4", widths=4)
    weight = narrow.blocks[0].ffn.net[2].weight
    with pytest.raises(RuntimeError, match=f"{LAYER} has the planes of 4 bits only"):
        compiled.load_state_dict({LAYER: weight.detach()}, strict=False)
    assert narrow.state_dict()[LAYER].widest == 8  # a state dict is whole

import copy
import io
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torchao.quantization import quantize_

from tadp.files.packed import flatten_state_dict, unflatten_state_dict
from tadp.kernels import (
    BitPlaneWeight,
    TadpWeightConfig,
    pack_linear_,
    planes,
)
from tests.kernels.cases import COLUMNS, FLOATS, ROWS, SEEDS, WIDTHS, random_codes


@settings(deadline=None, max_examples=60)
@given(SEEDS, ROWS, COLUMNS)
def test_planes_hold_the_codes(seed: int, rows: int, columns: int) -> None:
    codes = random_codes(seed, rows, columns)
    high, mid, low = planes.cut(codes)
    padded = planes.padded_columns(columns)
    assert high.shape == (rows, padded // 2)
    assert mid.shape == low.shape == (rows, padded // 4)
    assert torch.equal(planes.join(high, mid, low, columns), codes)
    assert torch.equal(planes.join(high, mid, None, columns), codes >> 2)
    assert torch.equal(planes.join(high, None, None, columns), codes >> 4)


@pytest.mark.parametrize("size", [None, 64])
def test_codes_from_elsewhere_are_packed_as_they_are(size: int | None) -> None:
    weight = torch.randn(6, 128, generator=torch.Generator().manual_seed(0))
    codes, scale = planes.encode(weight, size)
    own, packed = BitPlaneWeight.from_codes(codes, scale, torch.bfloat16), BitPlaneWeight.from_hp(weight, size)
    assert own.dtype is torch.bfloat16
    for part in ("high", "mid", "low", "scale"):
        assert torch.equal(getattr(own, part), getattr(packed, part))
    if size:
        ours = BitPlaneWeight.from_codes(codes, scale.contiguous(), torch.float32)  # as files hold it
        assert ours.scale.stride() == packed.scale.stride()


@pytest.mark.parametrize(
    ("codes", "scale", "message"),
    [
        (torch.zeros(4, 64), torch.ones(4), r"\(rows, columns\) of uint8"),
        (torch.zeros(64, dtype=torch.uint8), torch.ones(1), r"\(rows, columns\) of uint8"),
        (torch.zeros(4, 64, dtype=torch.uint8), torch.ones(4, 2), r"\(4,\) or \(4, 1\) of float32"),
        (torch.zeros(4, 64, dtype=torch.uint8), torch.ones(4).double(), "not .* of torch.float64"),
        (torch.zeros(4, 64, dtype=torch.uint8), torch.full((4,), float("inf")), "finite"),
    ],
)
def test_codes_that_do_not_fit_are_refused(codes: torch.Tensor, scale: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BitPlaneWeight.from_codes(codes, scale, torch.float32)


@settings(deadline=None, max_examples=60)
@given(SEEDS, ROWS, COLUMNS)
def test_restored_weights_lie_in_their_cell(seed: int, rows: int, columns: int) -> None:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)) * 10 ** (seed % 7 - 3)
    packed = BitPlaneWeight.from_hp(weight)
    for width in WIDTHS:
        # Half a cell of 2^(8-b) codes; the division, the scale and the product round once each, 3 * 2^-24 of 134 steps.
        bound = (2 ** (7 - width) + 3 * 134 * 2.0**-24) * packed.scale.abs()[:, None]
        assert ((packed.dequantize(width) - weight).abs() <= bound).all()


def test_packing_leaves_the_weight_alone() -> None:
    weight = torch.randn(9, 12)
    before = weight.clone()
    BitPlaneWeight.from_hp(weight)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("width", WIDTHS)
def test_zero_rows_come_back_as_zero(width: int) -> None:
    # Freshly added layers start at zero, and at 6 and 4 bits no code restores zero.
    # So do rows whose scale would be 0 or below the normal range, where quotients by it keep few bits.
    weight = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, -2.0], [0.0, 1e-44, 0.0], [0.0, -1e-38, 1e-38]])
    packed = BitPlaneWeight.from_hp(weight)
    assert torch.equal(packed.dequantize(width)[[0, 2, 3]], torch.zeros(3, 3))
    assert torch.equal(packed.linear(torch.ones(1, 3), width=width)[:, [0, 2, 3]], torch.zeros(1, 3))


def test_half_a_step_beyond_the_outermost_codes_widens_no_step() -> None:
    codes, scale = planes.encode(torch.tensor([[-134.5, 121.5, 1.0], [134.5, -121.5, -1.0]]))
    assert torch.equal(scale, torch.tensor([1.0, -1.0]))
    assert torch.equal(codes, torch.tensor([[0, 255, 135]] * 2, dtype=torch.uint8))


def test_zero_weights_come_back_as_zero_at_eight_bits() -> None:
    assert BitPlaneWeight.from_hp(torch.tensor([[0.0, 1.0, -2.0]])).dequantize()[0, 0] == 0


def test_attributes() -> None:
    packed = BitPlaneWeight.from_hp(torch.randn(6, 10, dtype=torch.bfloat16))
    assert packed.shape == (6, 10)
    assert packed.dtype == torch.bfloat16
    assert packed.nbytes_at(8) == 6 * 12 + 24
    assert packed.nbytes_at(6) == 6 * 9 + 24
    assert packed.nbytes_at(4) == 6 * 6 + 24
    assert packed.planes(6)[:3] == (packed.high, packed.mid, None)
    assert repr(packed).startswith("BitPlaneWeight(shape=(6, 10), dtype=torch.bfloat16")
    with pytest.raises(ValueError, match="not at 5"):
        packed.unpack(5)


def test_refuses() -> None:
    for weight, message in (
        (torch.zeros(3), "two dimensions"),
        (torch.zeros(2, 2, dtype=torch.float64), "float64"),
        (torch.tensor([[1.0, torch.nan]]), "NaN or infinite"),
        (torch.tensor([[1.0, torch.inf]]), "NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            BitPlaneWeight.from_hp(weight)
    with pytest.raises(TypeError, match="LayerNorm"):
        pack_linear_(nn.LayerNorm(3))
    with pytest.raises(TypeError, match="weight of a linear only"):
        nn.functional.linear(BitPlaneWeight.from_hp(torch.randn(3, 3)), torch.randn(3, 3))


def packed_model(dtype: torch.dtype = torch.bfloat16) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(13, 24), nn.GELU(), nn.Linear(24, 5, bias=False)).to(dtype)
    for module in model:
        if isinstance(module, nn.Linear):
            pack_linear_(module)
    return model


def parts_equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    assert isinstance(left, BitPlaneWeight)
    assert isinstance(right, BitPlaneWeight)
    same = (torch.equal(getattr(left, name), getattr(right, name)) for name in BitPlaneWeight.tensor_data_names)
    return all(same) and (left.columns, left.dtype) == (right.columns, right.dtype)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_packed_model_runs_eagerly(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(96, 40).to(dtype)
    x = torch.randn(2, 7, 96, dtype=dtype)
    expected = plain(x).double()
    pack_linear_(plain)
    assert not plain.weight.requires_grad
    weight = plain.weight
    pack_linear_(plain)
    assert plain.weight is weight
    found = plain(x)
    assert found.dtype == dtype
    # Rounding to steps of amax/127 with uniform error, amax about 2.7 and 1.7 times the rms for gaussian tokens and
    # uniform weights of 96 columns: relative noise about sqrt(2.7^2 + 1.7^2) / 127 / sqrt(12) = 0.7 %; bound: 2 %.
    assert (found.double() - expected).norm() / expected.norm() < 0.02
    with torch.inference_mode():
        assert torch.equal(plain(x), found)


@pytest.mark.parametrize("assign", [True, False])
def test_state_dict_round_trip(assign: bool) -> None:
    model, other = packed_model(), packed_model()
    with torch.no_grad():
        other[0].weight.high.zero_()
    other.load_state_dict(model.state_dict(), assign=assign)
    assert parts_equal(other[0].weight.data, model[0].weight.data)
    x = torch.randn(4, 13, dtype=torch.bfloat16)
    assert torch.equal(model(x), other(x))


def test_safetensors_round_trip(tmp_path: Path) -> None:
    model = packed_model()
    tensors, metadata = flatten_state_dict(model.state_dict())
    assert all(type(tensor) is torch.Tensor for tensor in tensors.values())
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, metadata=metadata)
    with safe_open(path, "pt") as file:
        read = unflatten_state_dict({name: file.get_tensor(name) for name in file.keys()}, file.metadata())  # noqa: SIM118
    assert read.keys() == model.state_dict().keys()
    other = packed_model()
    other.load_state_dict(read, assign=True)
    assert parts_equal(other[2].weight.data, model[2].weight.data)
    x = torch.randn(4, 13, dtype=torch.bfloat16)
    assert torch.equal(model(x), other(x))


def test_damaged_state_is_refused() -> None:
    tensors, metadata = flatten_state_dict({"w": BitPlaneWeight.from_hp(torch.randn(3, 8))})
    with pytest.raises(ValueError, match=r"lacks its part w\.mid"):
        unflatten_state_dict({name: tensor for name, tensor in tensors.items() if name != "w.mid"}, metadata)
    with pytest.raises(ValueError, match="do not fit"):
        unflatten_state_dict({**tensors, "w.low": tensors["w.low"][:, 1:]}, metadata)
    future = {name: text.replace('"version": 2', '"version": 9') for name, text in metadata.items()}
    with pytest.raises(ValueError, match="format version 9"):
        unflatten_state_dict(tensors, future)
    with pytest.raises(ValueError, match=r"w\.high"):
        flatten_state_dict({"w": BitPlaneWeight.from_hp(torch.randn(3, 8)), "w.high": torch.zeros(1)})
    assert unflatten_state_dict({"a": tensors["w.high"]}, None).keys() == {"a"}


def test_moves_and_copies() -> None:
    model = packed_model()
    weight = model[0].weight.data
    assert isinstance(weight, BitPlaneWeight)
    wide = model.to(torch.float32)[0].weight.data
    assert wide.dtype == torch.float32
    assert torch.equal(wide.high, weight.high)
    assert model(torch.randn(2, 13)).dtype == torch.float32
    with pytest.raises(ValueError, match="float64"):
        weight.to(torch.float64)
    for copied in (weight.clone(), weight.detach(), weight.contiguous(), weight.to("cpu"), copy.deepcopy(weight)):
        assert parts_equal(copied, weight)
    assert weight.clone().high.data_ptr() != weight.high.data_ptr()
    meta = weight.to("meta")
    assert meta.device.type == meta.high.device.type == "meta"
    assert meta.shape == weight.shape


def test_torchao_packs_every_linear() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Sequential(nn.Linear(8, 4)))
    quantize_(model, TadpWeightConfig())
    assert isinstance(model[0].weight, BitPlaneWeight)
    assert isinstance(model[2][0].weight, BitPlaneWeight)
    assert "BitPlaneWeight" in io.StringIO(str(model[0].weight)).read()


def balanced_weight(columns: int = 13) -> tuple[torch.Tensor, torch.Tensor, BitPlaneWeight]:
    """A weight with one large column, factors that make it like the others, and both packed."""
    weight = torch.randn(6, columns, generator=torch.Generator().manual_seed(0))
    weight[:, 3] *= 30
    factors = torch.ones(columns)
    factors[3] = 30.0
    return weight, factors, BitPlaneWeight.from_hp(weight, factors=factors)


def test_factors_move_difficulty_and_change_no_product() -> None:
    weight, factors, packed = balanced_weight()
    x = torch.randn(20, 13, generator=torch.Generator().manual_seed(1)) / factors
    expected = x @ weight.T

    def error(product: torch.Tensor) -> float:
        return ((product - expected).norm() / expected.norm()).item()

    assert error(packed.linear(x)) < 0.02  # codes of 8 bits on both sides
    assert error(packed.linear(x)) < error(BitPlaneWeight.from_hp(weight).linear(x)) / 2
    assert error(x @ packed.dequantize().T) < 0.01
    assert packed.linear(x.bfloat16()).dtype == torch.bfloat16


def test_factors_travel_with_the_weight() -> None:
    _, factors, packed = balanced_weight()
    for copied in (packed.clone(), packed.detach(), packed.to(torch.bfloat16), copy.deepcopy(packed)):
        assert torch.equal(copied.factors, factors)
    tensors, metadata = flatten_state_dict({"w": packed, "v": BitPlaneWeight.from_hp(torch.randn(3, 8))})
    assert "v.factors" not in tensors
    read = unflatten_state_dict(tensors, metadata)
    assert torch.equal(read["w"].factors, factors)
    assert read["v"].factors is None
    with pytest.raises(ValueError, match="do not fit"):
        unflatten_state_dict({**tensors, "w.factors": factors[1:]}, metadata)


@pytest.mark.parametrize("factors", [torch.ones(12), torch.zeros(13), torch.full((13,), float("nan"))])
def test_factors_that_cannot_be_are_refused(factors: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="13 numbers above 0"):
        BitPlaneWeight.from_hp(torch.randn(6, 13), factors=factors)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_numbers_that_are_not_finite_are_found_wherever_they_are(value: float, dtype: torch.dtype) -> None:
    weight = torch.randn(3, 8).to(dtype)
    assert planes.is_finite(weight)
    assert planes.is_finite(weight[:0])
    for place in ((0, 0), (1, 5), (2, 7)):
        broken = weight.clone()
        broken[place] = value
        assert not planes.is_finite(broken)
        with pytest.raises(ValueError, match="NaN or infinite"):
            BitPlaneWeight.from_hp(broken)

import comfy_kitchen.tensor.int8_utils as convrot
import pytest
import torch
from comfy_kitchen.backends.eager import quantization as comfy
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.kernels import BitPlaneWeight, reference, rotation
from tadp.kernels.isa import cpu_isa
from tests.kernels.cases import FLOATS, ISAS, SEEDS, tokens_with_outliers

SIZES = st.sampled_from(rotation.SIZES)


@pytest.mark.parametrize("size", [4, 16, 64, 256])
def test_the_matrix_is_comfyuis(size: int) -> None:
    found = rotation.matrix(size)
    assert torch.equal(found, convrot._build_hadamard(size))
    assert torch.equal(found, found.T)
    assert torch.equal(found @ found, torch.eye(size))


@pytest.mark.parametrize("size", [0, 1, 2, 32, 128, -4])
def test_other_sizes_have_no_matrix(size: int) -> None:
    with pytest.raises(ValueError, match="power of four"):
        rotation.matrix(size)


@pytest.mark.parametrize(("columns", "size"), [(5120, 256), (13824, 256), (320, 64), (96, 0), (0, 0), (64, 64)])
def test_the_largest_size_that_divides_a_row(columns: int, size: int) -> None:
    assert rotation.size_for(columns) == size


@settings(deadline=None, max_examples=30)
@given(SEEDS, SIZES, st.integers(1, 3), st.integers(1, 5))
def test_rotates_as_the_matrix_does(seed: int, size: int, runs: int, tokens: int) -> None:
    x = tokens_with_outliers(seed, (tokens, runs * size)).double()
    expected = rotation.rotate_by_product(x, size)
    torch.testing.assert_close(rotation.rotate(x, size), expected, rtol=0, atol=1e-13 * float(x.abs().max()))
    # Each float32 element passes two roundings of sums and one of a difference a digit, each of a number that is at
    # most as large as all magnitudes of its run together.
    digits = {64: 3, 256: 4}[size]
    bound = 3 * digits * 2.0**-24 * x.abs().unflatten(-1, (runs, size)).sum(-1) / size**0.5
    error = (rotation.rotate(x.float(), size).double() - expected).abs().unflatten(-1, (runs, size))
    assert (error <= bound[..., None]).all()


@settings(deadline=None, max_examples=40)
@given(SEEDS, SIZES, st.integers(1, 3), st.integers(0, 5), st.sampled_from(FLOATS), st.integers(-120, 100))
def test_kernels_have_the_bits_of_the_reference(
    seed: int, size: int, runs: int, tokens: int, dtype: torch.dtype, power: int
) -> None:
    x = tokens_with_outliers(seed, (tokens, runs * size), dtype)
    x = (x * 2.0**power).to(dtype) if dtype != torch.float16 else x
    for isa in ISAS:
        with cpu_isa(isa):
            assert torch.equal(torch.ops.tadp.rotate(x, size), reference.rotate(x, size)), isa
            for left, right in zip(torch.ops.tadp.quantize(x, 0, size), reference.quantize(x, 0, size), strict=True):
                assert torch.equal(left, right), isa


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_a_poisoned_token_poisons_only_itself(isa: str, poison: float) -> None:
    x = torch.randn(5, 512)
    clean = torch.ops.tadp.quantize(x, 0, 256)
    x[2, 300] = poison
    with cpu_isa(isa):
        codes, scale, _ = torch.ops.tadp.quantize(x, 0, 256)
    assert scale[2].isnan()
    assert not codes[2].any()
    others = torch.arange(5) != 2
    assert torch.equal(codes[others], clean[0][others])


def test_groups_sum_what_was_rotated() -> None:
    x = torch.randn(3, 256)
    codes, _, sums = torch.ops.tadp.quantize(x, 4, 64)
    assert torch.equal(sums, reference.sum_codes(codes, 4))
    assert torch.equal(sums, reference.quantize(x, 4, 64).sum)


@pytest.mark.parametrize("operator", [lambda x, size: torch.ops.tadp.quantize(x, 0, size), torch.ops.tadp.rotate])
def test_refuses_what_it_cannot_rotate(operator: object) -> None:
    assert callable(operator)
    for device in ("cpu", "meta"):
        with pytest.raises(RuntimeError, match="256 or 64 columns, not 128"):
            operator(torch.zeros(2, 256, device=device), 128)
        with pytest.raises(RuntimeError, match="do not divide 96"):
            operator(torch.zeros(2, 96, device=device), 64)


def test_operators_are_well_behaved() -> None:
    torch.library.opcheck(torch.ops.tadp.rotate.default, (torch.randn(2, 3, 64), 64))
    torch.library.opcheck(torch.ops.tadp.quantize.default, (torch.randn(5, 256), 2, 64))


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_weight_that_is_rotated_stands_for_the_same_weight(dtype: torch.dtype) -> None:
    plain = torch.randn(48, 512).to(dtype)
    packed = BitPlaneWeight.from_hp(plain, rotation=256)
    # Codes are off by half a step; a rotation keeps the length of a row's error.
    step = packed.scale.abs().double()
    error = (packed.dequantize().double() - plain.double()).square().sum(1).sqrt()
    rounding = torch.finfo(dtype).eps * plain.double().square().sum(1).sqrt()
    assert (error <= step / 2 * 512**0.5 + rounding).all()


@pytest.mark.parametrize("width", [8, 6, 4])
def test_a_product_with_a_rotated_weight(width: int) -> None:
    x, plain = tokens_with_outliers(0, (9, 512)), torch.randn(48, 512)
    packed = BitPlaneWeight.from_hp(plain, rotation=256)
    turned = reference.rotate(x, 256), rotation.rotate(plain, 256)
    expected = BitPlaneWeight.from_hp(turned[1]).linear(turned[0], width=width)
    assert torch.equal(packed.linear(x, width=width), expected)


def test_comfyui_makes_the_same_codes_of_activations() -> None:
    """Bit for bit, where no sum of a rotation rounds: small integers."""
    x = torch.randint(-64, 65, (16, 512)).float()
    codes, scale = comfy.quantize_and_rotate_rowwise(x, convrot._build_hadamard(256), 256)
    found = torch.ops.tadp.quantize(x, 0, 256)
    assert torch.equal(found[1], scale.view(-1))
    # ComfyUI divides by the scale where tadp multiplies by the inverse: codes differ where that is a tie.
    apart = (found[0] != codes).nonzero()
    steps = reference.rotate(x, 256).double() / scale.double().view(-1, 1)
    assert all(abs(steps[row, column].item() % 1 - 0.5) < 1e-5 for row, column in apart.tolist())


def test_comfyui_rotates_a_weight_alike() -> None:
    weight = torch.randint(-64, 65, (24, 512)).float()
    assert torch.equal(convrot._rotate_weight(weight, convrot._build_hadamard(256), 256), rotation.rotate(weight, 256))

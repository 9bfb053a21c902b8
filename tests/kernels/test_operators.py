import pytest
import torch

from tadp.kernels import BitPlaneWeight, registry
from tadp.precision import L16, Level
from tests.kernels.cases import FLOATS, WIDTHS, operands


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(5, 16), (2, 3, 7), (0, 8)])
def test_opcheck_quantize(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    torch.library.opcheck(torch.ops.tadp.quantize.default, (torch.randn(shape).to(dtype),))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("biased", [True, False])
def test_opcheck_linear(width: int, biased: bool) -> None:
    weight = BitPlaneWeight.pack(torch.randn(10, 18))
    quantized = torch.ops.tadp.quantize(torch.randn(2, 3, 18))
    bias = torch.randn(10) if biased else None
    torch.library.opcheck(
        torch.ops.tadp.linear.default, (*quantized, *operands(weight, width), weight.scale, bias, torch.bfloat16)
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_opcheck_dequantize(width: int) -> None:
    weight = BitPlaneWeight.pack(torch.randn(10, 18))
    torch.library.opcheck(
        torch.ops.tadp.dequantize.default, (*operands(weight, width), weight.scale, 18, torch.bfloat16)
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_registry_names_the_cpu_variants(width: int) -> None:
    isa = torch.ops.tadp.cpu_isa()
    assert registry.variant_name("quantize", Level(width, 8), "cpu") == f"cpp-{isa}"
    assert registry.variant_name("linear", Level(width, 8), "cpu") == f"cpp-{isa}"
    assert isa in registry.variant_name("linear", Level(width, 16), "cpu")


def test_registry_says_what_there_is() -> None:
    with pytest.raises(LookupError, match="linear at 8 on cpu"):
        registry.variant_name("linear", L16, "cpu")


def test_a_registered_variant_replaces_the_earlier_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_VARIANTS", dict(registry._VARIANTS))
    registry.register(registry.Variant("linear", Level(4, 8), "cpu", lambda: "new"))
    assert registry.variant_name("linear", Level(4, 8), "cpu") == "new"

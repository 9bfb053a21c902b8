from dataclasses import replace

import pytest
import torch

from tadp.kernels import BitPlaneWeight, registry
from tadp.kernels.registry import Request, Variant
from tadp.kernels.tuning import apply_variant
from tadp.precision import L8, L16, Level

REQUEST = Request(
    level=L8,
    tokens=1280,
    columns=1536,
    rows=1536,
    groups=0,
    dtype=torch.bfloat16,
    device="cpu",
    architecture="avx512vnni",
)
ON_GPU = replace(REQUEST, device="cuda", architecture="sm_90")


@pytest.mark.parametrize("level", ["8", "w6a16"])
def test_a_gpu_offers_its_rule_first_and_kernels_by_name(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry.triton_kernels, "is_used", lambda: True)
    offered = registry.candidates(replace(ON_GPU, level=Level.parse(level)))
    assert offered[0].kernel == ""
    assert sum(variant.kernel.startswith("triton-") for variant in offered) > 5
    assert len(set(offered)) == len(offered)


def test_the_rule_takes_the_integer_product_for_8_bit_activations() -> None:
    assert registry.choose(REQUEST) == Variant("linear")
    assert {variant.operator for variant in registry.candidates(REQUEST)} == {"linear", "weight_only_linear"}


@pytest.mark.parametrize(("tokens", "kernel"), [(1, "fused"), (16, "fused"), (17, "dequantize")])
def test_weight_only_levels_never_round_activations(tokens: int, kernel: str) -> None:
    request = replace(REQUEST, level=Level.parse("w4a16"), tokens=tokens)
    assert registry.choose(request) == Variant("weight_only_linear", kernel)
    assert all(variant.operator == "weight_only_linear" for variant in registry.candidates(request))


def test_a_measured_variant_wins_where_it_is_offered() -> None:
    assert str(registry.choose(REQUEST, lambda request: "weight_only_linear:dequantize")) == (
        "weight_only_linear:dequantize"
    )
    assert registry.choose(REQUEST, lambda request: "gone:since") == Variant("linear")
    assert registry.choose(REQUEST, lambda request: None) == Variant("linear")


def test_every_offered_kernel_is_one_that_its_operator_has() -> None:

    weight = BitPlaneWeight.from_hp(torch.randn(8, 16))
    for level in (L8, Level.parse("w8a16")):
        for tokens in (1, 17):
            request = replace(REQUEST, level=level, tokens=tokens, columns=16, rows=8, dtype=torch.float32)
            for variant in registry.candidates(request):
                assert apply_variant(variant, level, torch.randn(tokens, 16), weight).shape == (tokens, 8)


def test_says_where_there_is_none() -> None:
    with pytest.raises(LookupError, match="no variant of a linear at level 8 on tpu; devices: cpu, cuda"):
        registry.choose(replace(REQUEST, device="tpu"))
    assert registry.architecture_of(torch.device("meta")) == "meta"
    with pytest.raises(LookupError, match="at level 16"):
        registry.choose(replace(REQUEST, level=L16))


def test_a_registered_offer_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_OFFERS", dict(registry._OFFERS))
    registry.register("linear", "tpu", lambda request: (Variant("linear", f"tile-{request.rows}"),))
    assert registry.choose(replace(REQUEST, device="tpu")) == Variant("linear", "tile-1536")


@pytest.mark.parametrize("variant", [Variant("linear"), Variant("linear", "a:b-1")])
def test_names_are_read_back(variant: Variant) -> None:
    assert Variant.parse(str(variant)) == variant

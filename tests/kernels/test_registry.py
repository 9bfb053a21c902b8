from dataclasses import replace

import pytest
import torch

import tadp
from tadp.kernels import BitPlaneWeight, cuda, operators, reference, registry, table
from tadp.kernels import triton as triton_kernels
from tadp.kernels.registry import AttentionRequest, Kernel, Request, choose
from tadp.kernels.tuning import apply
from tadp.kernels.values import Codes, Epilogue, Planes
from tadp.precision import L8, L16, Level
from tests.kernels.requests import ON_GPU, REQUEST
from tests.models import tiny_inputs, tiny_transformer

CPU = torch.device("cpu")


@pytest.fixture
def with_gpu_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, with Triton and with the kernels of csrc/cuda."""
    monkeypatch.setattr(triton_kernels, "missing", lambda: None)
    monkeypatch.setattr(cuda, "is_used", lambda device=None: True)


@pytest.fixture
def own_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that a test registers are forgotten after it."""
    monkeypatch.setattr(registry, "KERNELS", dict(registry.KERNELS))


def names_of(request: registry.AnyRequest) -> list[str]:
    return list(map(str, registry.candidates(request)))


@pytest.mark.parametrize(
    ("level", "tokens", "name"),
    [
        ("8", 1, "linear:int8"),
        ("8", 16, "linear:int8"),
        ("8", 17, "linear:int8"),
        ("8", 1280, "linear:int8"),
        ("4", 1280, "linear:int8"),
        ("6m", 1280, "linear:int8"),
        ("w8a16", 1, "weight_only_linear:fused"),
        ("w8a16", 16, "weight_only_linear:fused"),
        ("w8a16", 17, "weight_only_linear:dequantize"),
        ("w4a16", 1280, "weight_only_linear:dequantize"),
    ],
)
def test_on_a_cpu(level: str, tokens: int, name: str) -> None:
    assert str(choose(replace(REQUEST, level=Level.parse(level), tokens=tokens), CPU)) == name


@pytest.mark.parametrize("gpu", ["sm_80", "sm_89", "sm_90", "sm_100"])
@pytest.mark.parametrize(
    ("level", "tokens", "groups", "name"),
    [
        ("8", 1, 0, "linear:cuda"),
        ("8", 16, 0, "linear:cuda"),
        ("8", 17, 0, "linear:triton-64x64x32-w4-s4-k2"),
        ("6", 12, 0, "linear:cuda"),
        ("6", 13, 0, "linear:triton-64x16x64-w4-s4"),
        ("4", 8, 0, "linear:cuda"),
        ("4", 9, 0, "linear:triton-64x16x64-w4-s4"),
        ("6m", 1, 0, "linear:triton-64x16x64-w4-s4"),
        ("w8a16", 1, 0, "weight_only_linear:triton-64x16x64-w4-s4"),
        ("w8a16", 256, 0, "weight_only_linear:triton-128x64x32-w8-s3-k4"),
        ("w8a16", 257, 0, "weight_only_linear:dequantize"),
        ("w4a16", 1280, 12, "weight_only_linear:dequantize"),
    ],
)
@pytest.mark.usefixtures("with_gpu_kernels")
def test_on_a_gpu(level: str, tokens: int, groups: int, name: str, gpu: str) -> None:
    request = replace(ON_GPU, level=Level.parse(level), tokens=tokens, groups=groups, architecture=gpu)
    assert str(choose(request, torch.device("cuda"))) == name


@pytest.mark.parametrize(
    ("gpu", "whole", "split", "grouped", "mixed"),
    [
        ("sm_80", "128x128x64-w8-s3", "128x128x64-w8-s3-k2", "128x64x16-w8-s4", "128x128x64-w8-s3"),
        ("sm_89", "128x128x32-w8-s4", "128x128x32-w8-s4-k2", "128x64x16-w8-s4", "128x128x32-w8-s4"),
        ("sm_90", "256x128x64-w16-s3", "256x128x64-w16-s3-k2", "deep-128x64x16-w8-s4", "128x128x64-w8-s4"),
        ("sm_100", "128x128x64-w8-s4", "128x128x64-w8-s4", "128x64x16-w8-s4", "128x128x64-w8-s4"),
        ("sm_120", "128x128x32-w8-s4", "128x128x32-w8-s4-k2", "128x64x16-w8-s4", "128x128x32-w8-s4"),
    ],
)
@pytest.mark.usefixtures("with_gpu_kernels")
def test_many_tokens_on_a_gpu(gpu: str, whole: str, split: str, grouped: str, mixed: str) -> None:
    cases = (("8", 32760, 0, whole), ("8", 1280, 0, split), ("8", 1280, 24, grouped), ("6m", 1280, 0, mixed))
    for level, tokens, groups, name in cases:
        request = replace(ON_GPU, level=Level.parse(level), tokens=tokens, groups=groups, architecture=gpu)
        assert str(choose(request, torch.device("cuda"))) == f"linear:triton-{name}"


@pytest.mark.parametrize(
    ("device", "processor", "name"),
    [
        ("cpu", "avx2", "attention:int8"),
        ("cuda", "sm_80", "attention:triton-int8_float16-128x64-w8-s3"),
        ("cuda", "sm_89", "attention:triton-int8_float8-128x64-w8-s3"),
        ("cuda", "sm_90", "attention:triton-int8_float8-128x128-w8-s3"),
        ("cuda", "sm_100", "attention:triton-float8_float8-128x64-w8-s3"),
    ],
)
@pytest.mark.usefixtures("with_gpu_kernels")
def test_of_attention(device: str, processor: str, name: str) -> None:
    q = torch.empty(1, 12, 1280, 128, dtype=torch.bfloat16, device="meta")
    request = AttentionRequest(q, q, q, None, 8, device, processor)
    assert str(choose(request, torch.device(device))) == name


@pytest.mark.usefixtures("with_gpu_kernels")
@pytest.mark.parametrize("level", ["8", "w6a16"])
def test_a_gpu_has_several_kernels_worth_timing(level: str) -> None:
    found = names_of(replace(ON_GPU, level=Level.parse(level)))
    assert sum("triton-" in name for name in found) > 5
    assert len(set(found)) == len(found)


@pytest.mark.usefixtures("with_gpu_kernels")
@pytest.mark.parametrize(
    ("tokens", "dtype", "place"), [(1, torch.bfloat16, -1), (4096, torch.bfloat16, 0), (4096, torch.float32, -1)]
)
def test_restoring_the_weight_is_always_worth_timing(tokens: int, dtype: torch.dtype, place: int) -> None:
    found = names_of(replace(ON_GPU, level=Level(8, 16), tokens=tokens, dtype=dtype))
    assert found[place] == "weight_only_linear:dequantize"
    assert len(found) > 3


@pytest.mark.usefixtures("with_gpu_kernels")
def test_few_tokens_are_timed_with_the_cuda_kernel_where_it_does_not_come_first() -> None:
    request = replace(ON_GPU, level=Level(4, 8), tokens=16)
    assert "linear:cuda" in names_of(request)[1:]
    assert "linear:cuda" not in names_of(replace(request, tokens=17))


def test_levels_of_floating_activations_never_round_them() -> None:
    assert all("weight_only" in name for name in names_of(replace(REQUEST, level=Level.parse("w4a16"))))
    assert set(names_of(replace(REQUEST, level=Level.parse("6m")))) == {"linear:int8"}


@pytest.mark.parametrize(
    ("request_", "missing", "capability", "reason"),
    [
        (replace(REQUEST, device="mps", architecture="mps"), None, None, "a linear at level 8 has no kernel on mps"),
        (replace(REQUEST, level=L16), None, None, "a linear at level 16 has no kernel on cpu"),
        (ON_GPU, "Triton is not installed", None, "linear:triton: Triton is not installed"),
        (replace(ON_GPU, architecture="sm_75"), None, None, "needs compute capability 8.0, and this GPU has 7.5"),
        (replace(ON_GPU, level=Level(8, 16)), "these kernels hold PTX", None, "^these kernels hold PTX$"),
    ],
)
def test_says_why_there_is_none(
    request_: Request, missing: str | None, capability: None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_kernels, "missing", lambda: missing)
    monkeypatch.setattr(cuda, "is_used", lambda device=None: False)
    found = choose(request_, torch.device("meta"))
    assert isinstance(found, str)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found)
    assert registry.candidates(request_) == ()


@pytest.mark.parametrize("named", ["weight_only_linear:dequantize", "gone:since", None])
def test_a_measured_kernel_wins_where_it_serves(named: str | None) -> None:
    asked = []

    def fastest(request: Request, device: torch.device, offered: frozenset[str]) -> str | None:
        asked.append((request, device, offered))
        return named

    wanted = named if named == "weight_only_linear:dequantize" else "linear:int8"
    assert str(choose(REQUEST, CPU, fastest)) == wanted
    assert asked == [(REQUEST, CPU, frozenset({"linear:int8", "weight_only_linear:dequantize"}))]


def test_every_kernel_is_one_that_its_operator_has() -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(8, 16))
    for level in (L8, Level.parse("w8a16")):
        for tokens in (1, 17):
            request = replace(REQUEST, level=level, tokens=tokens, columns=16, rows=8, dtype=torch.float32)
            for kernel in registry.candidates(request):
                assert apply(kernel, level, torch.randn(tokens, 16), weight).shape == (tokens, 8)


def test_architectures() -> None:
    assert registry.architecture_of(torch.device("meta")) == "meta"
    assert registry.architecture_of(CPU) == torch.ops.tadp.cpu_isa()


@pytest.mark.parametrize("name", ["", "int8"])
def test_the_operator_takes_the_first_kernel_or_a_named_one(name: str) -> None:
    x, weight = torch.randn(3, 64), BitPlaneWeight.from_hp(torch.randn(8, 64))
    found = torch.ops.tadp.linear(*torch.ops.tadp.quantize(x), *weight.planes(8)[:4], None, x.dtype, "none", name)
    assert torch.equal(found, weight.linear(x, width=8))


def test_where_tokens_may_be_any_number_the_operator_chooses_among_several() -> None:
    alone = registry.find("linear", "cpu", "int8")
    assert registry.for_any_size(alone) is alone
    for operator, device, name in (("weight_only_linear", "cpu", "fused"), ("linear", "cuda", "library")):
        several = registry.for_any_size(registry.find(operator, device, name))
        assert (several.name, str(several)) == ("", operator)


def test_an_operator_takes_the_kernel_that_was_measured_to_be_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def noting(name: str) -> Kernel:
        def run(activations: Codes, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
            ran.append(name)
            return activations.codes.new_empty((*activations.codes.shape[:-1], planes.rows), dtype=epilogue.dtype)

        return Kernel(name, "linear", "cpu", lambda request: None, run)

    monkeypatch.setitem(registry.KERNELS, ("linear", "cpu"), (noting("first"), noting("second")))
    measured = {8: "linear:second", 64: None}
    monkeypatch.setattr(table, "lookup", lambda request, device, offered: measured[request.tokens])
    planes = BitPlaneWeight.from_hp(torch.randn(8, 64)).planes(8)
    for tokens in measured:
        codes = Codes(*torch.ops.tadp.quantize(torch.randn(tokens, 64)))
        epilogue = Epilogue(None, "none", torch.float32)
        torch.ops.tadp.registered_linear(*operators.flatten(codes, planes, epilogue))
    assert ran == ["second", "first"]


@pytest.mark.usefixtures("own_kernels")
def test_a_kernel_is_one_declaration() -> None:
    calls = []

    def run(codes: Codes, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
        calls.append(planes.width)
        return reference.linear(codes, planes, epilogue)

    def serves(request: Request) -> str | None:
        return None if request.tokens == 3 else "it takes three tokens"

    toy = Kernel(name="toy", operator="linear", device="cpu", serves=serves, run=run)
    registry.register(toy)
    assert choose(replace(REQUEST, tokens=3), CPU) == toy
    assert str(choose(replace(REQUEST, tokens=4), CPU)) == "linear:int8"
    x, weight = torch.randn(3, 64), BitPlaneWeight.from_hp(torch.randn(8, 64))
    arguments = (*torch.ops.tadp.quantize(x), *weight.planes(6)[:4], None, x.dtype, "none", "toy")
    found = toy.target(*arguments)
    assert calls == [6]
    torch.testing.assert_close(found, weight.linear(x, width=6))
    torch.library.opcheck(toy.target, arguments)
    with pytest.raises(RuntimeError, match="linear has no kernel 'gone' on cpu; there are toy, int8"):
        toy.target(*arguments[:-1], "gone")


@pytest.mark.usefixtures("own_kernels")
def test_a_device_without_kernels_gets_them_by_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    registry.register(Kernel("toy", "linear", "mps", lambda request: None, reference.linear))
    request = replace(REQUEST, device="mps", architecture="mps")
    kernel = choose(request, torch.device("mps"))
    assert isinstance(kernel, Kernel)
    assert kernel.target is torch.ops.tadp.linear.default


@pytest.mark.compiles
@pytest.mark.usefixtures("own_kernels")
@pytest.mark.compiles
def test_a_registered_kernel_is_explained_and_run() -> None:
    torch._dynamo.reset()
    runs = []

    def run(codes: Codes, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
        runs.append(planes.width)
        return reference.linear(codes, planes, epilogue)

    registry.register(Kernel("toy", "linear", "cpu", lambda request: None, run))
    model = tadp.compile(tiny_transformer(layers=1), policy="static:8", precompile=False)
    with torch.no_grad():
        model(**tiny_inputs())
    kernels = {layer.kernel for layer in model.tadp.layers() if layer.level == L8}
    assert kernels == {"linear:toy"}
    assert "linear:toy" in str(model.tadp.explain())
    assert len(runs) == 10  # of a block of Wan's


@pytest.mark.usefixtures("own_kernels")
def test_on_a_cpu_operators_do_not_pass_through_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*given: object) -> None:
        raise AssertionError("Python was asked")

    for function in ("unflatten", "find", "candidates"):
        monkeypatch.setattr(operators, function, unwanted)
    x, weight = torch.randn(3, 64), BitPlaneWeight.from_hp(torch.randn(8, 64))
    for name in ("", "fused"):
        torch.ops.tadp.weight_only_linear(x, *weight.planes(8)[:4], None, "none", name)
    for name in ("", "int8"):
        torch.ops.tadp.linear(*torch.ops.tadp.quantize(x), *weight.planes(8)[:4], None, x.dtype, "none", name)
        torch.ops.tadp.attention(*[torch.randn(1, 1, 2, 32)] * 3, kernel_name=name)


def test_an_operator_refuses_what_no_kernel_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "KERNELS", {})
    x, weight = torch.randn(3, 64), BitPlaneWeight.from_hp(torch.randn(8, 64))
    with pytest.raises(RuntimeError, match="no kernel of weight_only_linear serves: a linear at level w8a16 has no"):
        torch.ops.tadp.registered_weight_only_linear(x, *weight.planes(8)[:4], None)

"""A kernel that fails costs time, and no result: the next one runs, and plain torch where there is none."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

import tadp
from tadp.errors import KernelWarning
from tadp.kernels import BitPlaneWeight, failures, operators, reference, registry
from tadp.kernels.block_map import choose_blocks
from tadp.kernels.registry import AttentionRequest, Kernel, Request, choose
from tadp.kernels.values import Codes, Epilogue, Planes
from tadp.precision import L8
from tests.kernels.requests import REQUEST
from tests.models import relative_error, tiny_inputs, tiny_transformer

CPU = torch.device("cpu")


class CompilationError(Exception):
    """As those of Triton, which are no RuntimeErrors."""


class Failing:
    """A kernel's `run` that raises from some call on.

    Attributes:
        calls: how often it was called.
    """

    def __init__(self, run: Callable[..., torch.Tensor], error: Exception, after: int = 0) -> None:
        self.calls = 0
        self._run, self._error, self._after = run, error, after

    def __call__(self, *values: object, **named: object) -> torch.Tensor:
        self.calls += 1
        if self.calls > self._after:
            raise self._error
        return self._run(*values, **named)


@pytest.fixture(autouse=True)
def own_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that a test registers, and failures, are forgotten after it."""
    monkeypatch.setattr(registry, "KERNELS", dict(registry.KERNELS))
    monkeypatch.setattr(failures, "_FAILED", {})


def fail(operator: str, error: Exception, run: Callable[..., torch.Tensor] | None = None, after: int = 0) -> Failing:
    """Register a failing kernel before all others."""
    failing = Failing(run or getattr(reference, operator), error, after)
    registry.register(Kernel("failing", operator, "cpu", lambda request: None, failing, sparse=True))
    return failing


def product(name: str = "failing", width: int = 8, group_size: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """A product by the kernel of a name, and the reference's."""
    generator = torch.Generator().manual_seed(1)
    x, weight = torch.randn(3, 128, generator=generator), torch.randn(16, 128, generator=generator)
    packed = BitPlaneWeight.from_hp(weight, group_size)
    codes = Codes(*torch.ops.tadp.quantize(x, packed.groups))
    epilogue = Epilogue(torch.randn(16, generator=generator), "gelu_tanh", torch.float32)
    planes = packed.planes(width)
    bias, nonlinearity, dtype = epilogue
    operator = torch.ops.tadp.registered_linear
    return operator(*codes, *planes[:4], bias, dtype, nonlinearity, name), reference.linear(codes, planes, epilogue)


def test_the_next_kernel_runs_and_the_failing_one_is_not_asked_again() -> None:
    failing = fail("linear", CompilationError("ptxas is too old\nand more"))
    expected = "linear:failing failed on cpu, and linear:int8 runs in its place.*CompilationError: ptxas is too old$"
    with pytest.warns(KernelWarning, match=expected):
        found, exact = product()
    torch.testing.assert_close(found, exact)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again, _ = product()
    assert torch.equal(again, found)
    assert failing.calls == 1
    assert str(choose(replace(REQUEST, architecture=registry.architecture_of(CPU)), CPU)) == "linear:int8"


@pytest.mark.parametrize("width", [8, 6, 4])
@pytest.mark.parametrize("group_size", [None, 64])
def test_plain_torch_runs_where_no_kernel_is_left(width: int, group_size: int | None) -> None:
    registry.KERNELS["linear", "cpu"] = ()
    fail("linear", CompilationError())
    with pytest.warns(KernelWarning, match="plain torch runs in its place.*: CompilationError$"):
        found, exact = product(width=width, group_size=group_size)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)


def test_plain_torch_reads_rows_at_widths_of_their_own_and_multiplies_weight_only() -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(6, 64))
    planes = weight.planes(8)._replace(widths=torch.tensor([8, 6, 4] * 2, dtype=torch.uint8))
    codes, epilogue = Codes(*torch.ops.tadp.quantize(torch.randn(5, 64))), Epilogue(dtype=torch.float32)
    exact = reference.linear(codes, planes, epilogue)
    torch.testing.assert_close(failures.product(codes, planes, epilogue), exact, rtol=1e-4, atol=1e-4)
    x = torch.randn(5, 64)
    exact = reference.weight_only_linear(x, weight.planes(4), Epilogue())
    torch.testing.assert_close(failures.product(x, weight.planes(4), Epilogue()), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("masked", ["", "mask", "block map"])
def test_attention_that_fails_runs_in_plain_torch(masked: str) -> None:
    registry.KERNELS["attention", "cpu"] = ()
    fail("attention", CompilationError("no room"))
    q, k, v = (torch.randn(1, 2, 192, 32) for _ in range(3))
    mask = torch.rand(192, 192) > 0.3 if masked == "mask" else None
    block_map = choose_blocks(q, k, 0.4) if masked == "block map" else None
    with pytest.warns(KernelWarning, match="attention:failing failed on cpu, and plain torch runs"):
        found = torch.ops.tadp.registered_attention(q, k, v, mask, block_map=block_map)
    exact = reference.attention(q, k, v, mask, block_map=block_map)
    torch.testing.assert_close(found, exact, rtol=1e-4, atol=1e-4)
    assert found.stride() == exact.stride()


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("no memory"), RuntimeError("Triton Error [CUDA]: out of memory")],
    ids=["torch", "triton"],
)
def test_memory_that_runs_out_is_no_failure_of_a_kernel(error: Exception) -> None:
    failing = fail("linear", error)
    for _ in range(2):
        with pytest.raises(type(error), match="memory"):
            product()
    assert failing.calls == 2


def test_arguments_that_fit_nothing_are_no_failure_of_a_kernel() -> None:
    fail("linear", RuntimeError("whatever it says"))
    codes = torch.ops.tadp.quantize(torch.randn(3, 64))
    planes = BitPlaneWeight.from_hp(torch.randn(8, 128)).planes(8)
    with pytest.raises(RuntimeError, match="tadp"):
        torch.ops.tadp.registered_linear(*codes, *planes[:4], None, torch.float32, "none", "failing")
    assert str(choose(REQUEST, CPU)) == "linear:failing"


def test_a_kernel_that_was_named_though_it_does_not_serve_raises() -> None:
    def run(codes: Codes, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
        raise RuntimeError("two tokens at most")

    def serves(request: Request | AttentionRequest) -> str | None:
        return "two tokens at most"

    registry.register(Kernel("picky", "linear", "cpu", serves, run))
    with pytest.raises(RuntimeError, match="two tokens at most"):
        product("picky")


def test_one_size_of_a_kernel_fails_alone() -> None:
    def run(codes: Codes, planes: Planes, epilogue: Epilogue, kernel_name: str) -> torch.Tensor:
        if kernel_name.endswith("big"):
            raise CompilationError("out of resource: shared memory")
        return reference.linear(codes, planes, epilogue)

    registry.register(Kernel("sized", "linear", "cpu", lambda _: None, run, lambda _: ("sized-big", "sized-small")))
    with pytest.warns(KernelWarning, match="linear:sized-big failed on cpu, and linear:sized-small runs"):
        found, exact = product("sized-big")
    torch.testing.assert_close(found, exact)


@pytest.mark.compiles
@torch.no_grad()
def test_a_generation_goes_on_where_a_kernel_fails_in_its_middle() -> None:
    failing = fail("linear", CompilationError("the driver is too old"), after=25)
    plain = tiny_transformer()(**tiny_inputs())[0]
    model = tadp.compile(tiny_transformer(), policy="static:8", calibration=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = [model(**tiny_inputs())[0] for _ in range(3)]
    assert [one.category for one in caught if one.category is KernelWarning] == [KernelWarning]
    assert failing.calls == 26
    assert all(relative_error(result, plain) < 0.05 for result in found)
    told = {row.reason for row in model.tadp.layers() if row.level == L8}
    assert any("linear:failing failed and another one runs in its place" in reason for reason in told)


@pytest.mark.usefixtures("own_kernels")
def test_a_kernel_that_is_listed_twice_fails_where_its_second_rule_serves() -> None:
    def failing(codes: Codes, planes: Planes, epilogue: Epilogue) -> torch.Tensor:
        raise CompilationError("no")

    by_rule = Kernel("twice", "linear", "cpu", lambda request: "it comes first with many tokens", failing)
    registry.register(Kernel("twice", "linear", "cpu", lambda request: None, failing))
    registry.register(by_rule)
    with pytest.warns(KernelWarning, match="linear:twice failed on cpu, and linear:int8 runs in its place"):
        found, exact = product("twice")
    torch.testing.assert_close(found, exact)


def test_a_kernel_that_cannot_restore_weights_leaves_it_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("tadp.kernels.triton.dequantize", reason="triton is not installed")
    calls = []

    def failing(*arguments: object) -> torch.Tensor:
        calls.append(arguments)
        raise CompilationError("ptxas is too old")

    monkeypatch.setattr(module, "dequantize", failing)
    weight = BitPlaneWeight.from_hp(torch.randn(16, 128))
    arguments = (*weight.planes(6)[:4], 128, torch.bfloat16)
    with pytest.warns(KernelWarning, match="dequantize:triton failed on cpu, and plain torch runs.*ptxas is too old$"):
        found = operators.dequantize_on_gpu(*arguments)
    assert torch.equal(found, weight.dequantize(6).to(torch.bfloat16))
    operators.dequantize_on_gpu(*arguments)
    assert len(calls) == 1
    with pytest.raises(RuntimeError, match="high does not fit a weight of 132 columns"):
        operators.dequantize_on_gpu(*arguments[:4], 132, torch.bfloat16)

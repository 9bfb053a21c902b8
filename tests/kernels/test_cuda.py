from dataclasses import replace
from typing import Any

import pytest
import torch

from tadp.kernels import cuda, planes, reference
from tadp.kernels.formats import GROUP_SIZES
from tadp.kernels.reference import NONLINEARITIES
from tadp.kernels.registry import Request
from tadp.kernels.values import Codes
from tadp.precision import L8, Level
from tests.kernels.cases import FLOATS, WIDTHS, random_codes, random_widths, real_product, tokens_with_outliers

needs_kernels = pytest.mark.skipif(
    not (torch.cuda.is_available() and cuda.is_used()),
    reason="this machine has no CUDA device, or the library was built without CUDA kernels",
)

SHAPES = [(1, 1536, 1536), (2, 7, 64), (3, 130, 2112), (5, 33, 8960), (16, 1536, 1536), (16, 9, 13824), (4, 70, 97)]
COLUMNS = (1, 5, 64, 97, 1536, 8960, 13824, 16392, 40000, 65536)


def with_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "is_used", lambda device=None: True)


@pytest.mark.parametrize("width", WIDTHS)
def test_comes_first_where_reading_lasts_longer(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with_kernels(monkeypatch)
    for tokens in (1, 2 * width, 2 * width + 1, 16, 17, 32):
        request = Request(Level(width, 8), tokens, 1536, 1536, 0, torch.bfloat16, "cuda", "sm_90")
        assert (cuda.serves(request) is None) == (tokens <= 16)
        assert (cuda.serves_where_reading_lasts_longer(request) is None) == (tokens <= 2 * width and tokens <= 16)


def test_says_why_it_does_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(L8, 1, 1536, 1536, 0, torch.bfloat16, "cuda", "sm_90")
    with_kernels(monkeypatch)
    assert cuda.serves(request) is None
    assert cuda.serves(replace(request, level=Level.parse("6m"))) == "it reads all rows at one width"
    assert cuda.serves(replace(request, tokens=17)) == "it takes up to 16 tokens"
    monkeypatch.setattr(cuda, "is_used", lambda device=None: False)
    assert cuda.serves(request) == "the library holds no CUDA kernels for this GPU"


def test_asks_the_gpu_of_the_request_and_not_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    capabilities = [(8, 9), (9, 0)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capabilities[device.index])
    monkeypatch.setattr(cuda, "_is_built", lambda: True)
    monkeypatch.setattr(cuda, "_runs_on", lambda index: index == 1)
    request = Request(L8, 1, 1536, 1536, 0, torch.bfloat16, "cuda", "sm_90")
    assert cuda.serves(request) is None
    assert cuda.serves(replace(request, architecture="sm_89")) == "the library holds no CUDA kernels for this GPU"


def test_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    product = real_product(1, 17, 8, 64, None).values(8, torch.float32)
    with pytest.raises(RuntimeError, match="holds no kernel 'cuda' for cpu"):
        cuda.linear(*product)
    with_kernels(monkeypatch)
    with pytest.raises(RuntimeError, match="up to 16 tokens, got 17"):
        cuda.linear(*product)
    with pytest.raises(RuntimeError, match="at most 65536"):
        cuda.quantize(torch.zeros(1, 65537))


def test_quantize_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    x, calls = torch.randn(3, 64), []

    def noted(*given: Any) -> Codes:
        calls.append("quantize")
        return reference.quantize(*given)

    monkeypatch.setattr(cuda, "quantize", noted)
    with_kernels(monkeypatch)
    on_cuda = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)
    torch.ops.tadp.quantize.default.redispatch(on_cuda, x, 1)
    assert calls == ["quantize"]
    monkeypatch.setattr(cuda, "is_used", lambda device: False)
    found = torch.ops.tadp.quantize.default.redispatch(on_cuda, x, 1)
    assert calls == ["quantize"]
    for left, right in zip(found, reference.quantize(x, 1), strict=True):
        assert torch.equal(left, right)


def test_rows_of_own_widths_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, planes, epilogue = real_product(1, 3, 8, 64, None).values(8, torch.float32)
    with_kernels(monkeypatch)
    with pytest.raises(RuntimeError, match="kernel 'cuda' reads all rows at one width"):
        cuda.linear(codes, planes._replace(widths=random_widths(1, 8)), epilogue)


def assert_quantizes(x: torch.Tensor, groups: int = 0) -> None:
    for left, right in zip(torch.ops.tadp.quantize(x.cuda(), groups), reference.quantize(x, groups), strict=True):
        torch.testing.assert_close(left.cpu(), right, rtol=0, atol=0, equal_nan=True)


@pytest.mark.gpu
@needs_kernels
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("columns", COLUMNS)
def test_quantize_equals_the_reference_to_the_bit(columns: int, dtype: torch.dtype) -> None:
    x = tokens_with_outliers(columns, (11, columns), dtype)
    assert_quantizes(x)
    x[3, columns // 2], x[4, -1] = torch.nan, -torch.inf
    assert_quantizes(x)
    assert_quantizes(x[1:].t().contiguous().t())
    wide = tokens_with_outliers(1, (11, columns + 1), dtype)
    assert_quantizes(wide[:, 1:])
    for size in GROUP_SIZES:
        if columns % size == 0:
            assert_quantizes(x, columns // size)


@pytest.mark.gpu
@needs_kernels
@pytest.mark.parametrize("shape", [(0, 64), (3, 0), (2, 0, 8), (64,), (2, 3, 4, 64)])
def test_quantize_shapes(shape: tuple[int, ...]) -> None:
    assert_quantizes(torch.randn(shape))


@pytest.mark.gpu
@needs_kernels
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("tokens", "rows", "columns"), SHAPES)
def test_linear_has_the_bits_of_the_cpu(tokens: int, rows: int, columns: int, width: int, nonlinearity: str) -> None:
    for dtype in FLOATS:
        product = real_product(3, tokens, rows, columns, dtype)
        arguments = {**product.arguments(width, dtype), "nonlinearity": nonlinearity}
        assert_same_on_both(arguments)


@pytest.mark.gpu
@needs_kernels
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", GROUP_SIZES)
@pytest.mark.parametrize("columns", [128, 1536, 2176, 13824])
def test_linear_with_groups_has_the_bits_of_the_cpu(columns: int, size: int, width: int) -> None:
    for tokens in (1, 2, 3, 8, 13):
        product = real_product(3, tokens, 37, columns, torch.bfloat16)
        generator = torch.Generator().manual_seed(columns)
        arguments = product.arguments(width, torch.float32)
        arguments["weight_scale"] = torch.randn(37, columns // size, generator=generator)
        arguments["sum"] = reference.sum_codes(product.codes, columns // size)
        assert_same_on_both(arguments)


def assert_same_on_both(arguments: dict[str, object]) -> None:
    on_gpu = {
        name: argument.cuda() if isinstance(argument, torch.Tensor) else argument
        for name, argument in arguments.items()
    }
    found = torch.ops.tadp.linear(**on_gpu, kernel_name="cuda")
    torch.testing.assert_close(found.cpu(), torch.ops.tadp.linear(**arguments), rtol=0, atol=0, equal_nan=True)


def one_byte_further(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy on the GPU that no load of 16 bytes may read."""
    memory = torch.empty(tensor.numel() + 1, dtype=tensor.dtype, device="cuda")
    copy = memory[1:].view(tensor.shape)
    return copy.copy_(tensor)


@pytest.mark.gpu
@needs_kernels
def test_unaligned_arguments_and_other_streams() -> None:
    columns, rows = 128, 9
    cut = planes.cut(random_codes(1, rows + 1, columns))
    product = real_product(3, 2, rows, columns, None)
    arguments = product.arguments(8, torch.float32)
    arguments |= dict(zip(("high", "mid", "low"), (plane[1:] for plane in cut), strict=True))
    shifted = {name: one_byte_further(arguments[name]) for name in ("codes", "high", "mid", "low")}
    rest = {name: value.cuda() for name, value in arguments.items() if isinstance(value, torch.Tensor)}
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = torch.ops.tadp.linear(**{**arguments, **rest, **shifted}, kernel_name="cuda")
    stream.synchronize()
    assert torch.equal(found.cpu(), torch.ops.tadp.linear(**arguments))


@pytest.mark.gpu
@needs_kernels
@pytest.mark.parametrize("width", WIDTHS)
def test_opcheck(width: int) -> None:
    product = real_product(3, 2, 8, 64, torch.float32)
    given = product.arguments(width, torch.bfloat16).values()
    on_gpu = tuple(argument.cuda() if isinstance(argument, torch.Tensor) else argument for argument in given)
    torch.library.opcheck(torch.ops.tadp.linear.default, on_gpu)
    torch.library.opcheck(torch.ops.tadp.quantize.default, (torch.randn(2, 64).cuda(),))

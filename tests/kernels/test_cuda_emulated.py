"""The CUDA kernels themselves, launches included, with host threads in place of a GPU's."""

import ctypes
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from tadp.kernels import reference
from tadp.kernels.formats import GROUP_SIZES
from tadp.kernels.reference import NONLINEARITIES
from tests.kernels.cases import (
    FLOATS,
    WIDTHS,
    integer_product,
    padded_with_codes,
    real_product,
    tokens_with_outliers,
)
from tests.kernels.on_host import SOURCES, build, pointer

INCLUDES = [Path(root) / "include" for root in (os.environ.get("CUDA_HOME", ""), "/usr/local/cuda") if root]
CUDA = next((path for path in INCLUDES if (path / "cuda_fp16.h").is_file()), None)

pytestmark = [
    pytest.mark.spawns,
    pytest.mark.skipif(shutil.which("g++") is None or CUDA is None, reason="g++ or CUDA's headers are not installed"),
]

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}

ENTRIES = """
using namespace tadp::cuda;
extern "C" void run_quantize(const QuantizeProblem& problem) { launch_quantize(problem, nullptr); }
extern "C" void run_few_tokens(const FewTokensProblem& problem) { launch_few_tokens(problem, nullptr); }
"""


class QuantizeProblem(ctypes.Structure):
    """As in problems.h."""

    _fields_ = [
        *(("x", ctypes.c_void_p), ("type", ctypes.c_int32), ("tokens", ctypes.c_int64), ("columns", ctypes.c_int32)),
        *(("groups", ctypes.c_int32), ("codes", ctypes.c_void_p), ("scale", ctypes.c_void_p), ("sum", ctypes.c_void_p)),
    ]


class FewTokensProblem(ctypes.Structure):
    """As in problems.h."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("codes", "scale", "sum")),
        *((name, ctypes.c_int32) for name in ("tokens", "columns")),
        *((name, ctypes.c_void_p) for name in ("high", "mid", "low")),
        *(("rows", ctypes.c_int64), ("quarter", ctypes.c_int32), ("weight_scale", ctypes.c_void_p)),
        *(("groups", ctypes.c_int32), ("bias", ctypes.c_void_p), ("bias_type", ctypes.c_int32)),
        *(("nonlinearity", ctypes.c_int32), ("out", ctypes.c_void_p), ("out_type", ctypes.c_int32)),
    ]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("cuda_emulated")
    parts = ['#include "cuda_emulation.h"']
    for name in ("linear_few_tokens", "quantize"):
        launch = r"(\w+_kernel<[^;]*?>)<<<(.*?), (.*?), 0, stream>>>\(problem\)"
        text = (SOURCES / f"{name}.cu").read_text()
        text, launches = re.subn(launch, r"emulation::launch(\1, \2, dim3(\3), problem)", text)
        assert launches
        parts.append(text)
    source, built = folder / "emulated.cpp", folder / "emulated.so"
    source.write_text("\n".join([*parts, ENTRIES]))
    return build(source, built, f"-I{CUDA}", f"-I{Path(__file__).parent}", "-pthread", "-w")


def assert_quantizes(library: ctypes.CDLL, x: torch.Tensor, groups: int = 0) -> None:
    expected = reference.quantize(x, groups)
    found = tuple(torch.full_like(part, 77) for part in expected)
    problem = QuantizeProblem(pointer(x), TYPES[x.dtype], *x.shape, groups, *map(pointer, found))
    library.run_quantize(ctypes.byref(problem))
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", FLOATS)
def test_quantize_equals_the_reference_to_the_bit(library: ctypes.CDLL, dtype: torch.dtype) -> None:
    # Each number of runs that a thread keeps, aligned and not, and rows too long to be kept.
    for columns in (1, 5, 64, 97, 1536, 5120, 8960, 16392, 20001, 40000):
        assert_quantizes(library, tokens_with_outliers(columns, (7, columns), dtype)[:2])
        x = tokens_with_outliers(columns, (3, columns), dtype)[1:]
        x[1, columns // 2] = torch.nan
        assert_quantizes(library, x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_quantize_reads_from_anywhere(library: ctypes.CDLL, dtype: torch.dtype) -> None:
    # Rows of whole runs of 16 bytes, the first of which begins in the middle of one.
    held = tokens_with_outliers(3, (1 + 3 * 64,), dtype)
    assert_quantizes(library, held[1:].view(3, 64))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", GROUP_SIZES)
def test_quantize_sums_groups(library: ctypes.CDLL, size: int, dtype: torch.dtype) -> None:
    for columns in (size, 1536, 65536):
        assert_quantizes(library, tokens_with_outliers(1, (2, columns), dtype), columns // size)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("tokens", [1, 2, 3, 8, 9, 16])
@pytest.mark.parametrize(("rows", "columns"), [(1, 64), (9, 1536), (17, 2112), (5, 97)])
def test_product_has_the_bits_of_the_cpu(
    library: ctypes.CDLL, rows: int, columns: int, tokens: int, width: int
) -> None:
    dtype, bias = FLOATS[tokens % 3], (None, *FLOATS)[(rows + width) % 4]
    product = real_product(tokens, tokens, rows, columns, bias)
    found = run(library, product.arguments(width, dtype), 0)
    assert torch.equal(found, product.run(width, dtype))


@pytest.mark.parametrize("width", WIDTHS)
def test_what_pads_planes_does_not_count(library: ctypes.CDLL, width: int) -> None:
    product = integer_product(1, 3, 5, 97)
    found = run(library, padded_with_codes(product).arguments(width, torch.float32), 0)
    assert torch.equal(found, product.run(width, torch.float32))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("tokens", [1, 2, 4, 7, 16])
@pytest.mark.parametrize(("size", "columns"), [(64, 64), (64, 2112), (128, 128), (128, 2176)])
def test_groups_and_nonlinearities_have_the_bits_of_the_cpu(
    library: ctypes.CDLL, size: int, columns: int, tokens: int, width: int
) -> None:
    product = real_product(2, tokens, 7, columns, torch.float32)
    generator = torch.Generator().manual_seed(columns)
    arguments = product.arguments(width, torch.float32)
    arguments |= {"sum": reference.sum_codes(product.codes, columns // size)}
    arguments |= {"weight_scale": torch.randn(7, columns // size, generator=generator) * 0.01}
    for index, name in enumerate(NONLINEARITIES):
        expected = torch.ops.tadp.linear(**{**arguments, "nonlinearity": name})
        assert torch.equal(run(library, arguments, index), expected)


def run(library: ctypes.CDLL, arguments: dict[str, torch.Tensor], nonlinearity: int) -> torch.Tensor:
    codes, high, bias, scale = (arguments[name] for name in ("codes", "high", "bias", "weight_scale"))
    (tokens, columns), rows = codes.shape, high.shape[0]
    held = [arguments[name] for name in ("codes", "scale", "sum", "high", "mid", "low")]
    by_group = scale.t().contiguous()
    out = torch.full((tokens, rows), 77, dtype=arguments["dtype"])
    problem = FewTokensProblem(
        *map(pointer, held[:3]),
        *(tokens, columns),
        *map(pointer, held[3:]),
        *(rows, -(-columns // 4), pointer(by_group), 0 if scale.dim() == 1 else scale.shape[1]),
        *(pointer(bias), 0 if bias is None else TYPES[bias.dtype], nonlinearity, pointer(out), TYPES[out.dtype]),
    )
    library.run_few_tokens(ctypes.byref(problem))
    return out

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tadp.kernels import BitPlaneWeight, planes, reference
from tadp.kernels import triton as triton_kernels
from tadp.kernels.checks import check_linear
from tadp.kernels.formats import FORMATS
from tadp.kernels.operators import unflatten
from tadp.kernels.triton.tile import Tile, kernels_for
from tadp.kernels.triton.unpack import codes_ptx, values, values_ptx
from tests.kernels.bounds import linear_bound, weight_only_bound
from tests.kernels.cases import (
    FLOATS,
    WIDTHS,
    random_codes,
    random_widths,
    real_product,
    taking_arguments,
    tokens_with_outliers,
)

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


def on_gpu(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}


def run_python(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, timeout=550
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def interpreter_fails() -> bool:
    """Triton 3.6 makes loop bounds integers in a way that numpy refuses from 2.4 on."""
    versions = [tuple(map(int, importlib.metadata.version(name).split(".")[:2])) for name in ("triton", "numpy")]
    return versions[0] < (3, 7) and versions[1] >= (2, 4)


@pytest.mark.interpreter
@needs_triton
def test_numerics_in_the_interpreter() -> None:
    # Triton asks for the variable when it is first imported, and this process compiles kernels in another test.
    if interpreter_fails():
        pytest.skip("the interpreter of Triton 3.6 needs numpy below 2.4")
    files = sorted(map(str, Path(__file__).parent.glob("interpreted_*.py")))
    out = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", *files, TRITON_INTERPRET="1")
    assert " passed" in out
    assert "skipped" not in out


@pytest.mark.spawns
def test_nothing_stands_in_for_a_missing_triton() -> None:
    out = run_python(
        "-c",
        "import sys; sys.modules['triton'] = None\n"
        "import torch\n"
        "from tadp.kernels import registry\n"
        "from tests.kernels.requests import ON_GPU\n"
        "print(registry.choose(ON_GPU, torch.device('cuda')))",
    )
    assert "Triton is not installed" in out


def test_gpus_that_triton_does_not_support() -> None:
    for capability, used in (((7, 5), False), ((8, 0), True), ((9, 0), True), ((12, 0), True)):
        assert (triton_kernels.too_old(capability) is None) == used


def run_ptx(text: str, words: list[int], outputs: int = 1) -> list[int]:
    """Evaluate the few instructions that the kernels' PTX uses; ``words`` come after the outputs."""
    values = {f"${index + outputs}": word for index, word in enumerate(words)}
    for name, arguments in re.findall(
        r"^(mov|shl|shr|and|xor|prmt|fma)\.(?:[bu]32|rn\.(?:bf16|f16)x2) (.*);$", text, re.MULTILINE
    ):
        target, *sources = arguments.split(", ")
        first, *others = [values[source] if source in values else int(source, 0) for source in sources]
        values[target] = {
            "mov": lambda a: a,
            "shl": lambda a, b: a << b & 0xFFFFFFFF,
            "shr": lambda a, b: a >> b,
            "and": lambda a, b: a & b,
            "xor": lambda a, b: a ^ b,
            "prmt": permute_bytes,
            "fma": partial(multiply_add, torch.bfloat16 if "bf16x2" in text else torch.float16),
        }[name](first, *others)
    return [values[f"${index}"] for index in range(outputs)]


def permute_bytes(first: int, second: int, selector: int) -> int:
    pool = (second << 32 | first).to_bytes(8, "little")
    return int.from_bytes([pool[selector >> 4 * place & 7] for place in range(4)], "little")


def halves(word: int, dtype: torch.dtype) -> torch.Tensor:
    """The two numbers of 16 bits in a word, as float64."""
    return torch.frombuffer(bytearray(word.to_bytes(4, "little")), dtype=dtype).double()


def multiply_add(dtype: torch.dtype, first: int, second: int, third: int) -> int:
    """Of pairs, rounded once: float64 holds a product and a sum of such numbers exactly where these tests need it."""
    result = (halves(first, dtype) * halves(second, dtype) + halves(third, dtype)).to(dtype)
    return int.from_bytes(result.view(torch.uint8).tolist(), "little")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("quarter", range(4))
def test_ptx_unpacks_four_codes(width: int, quarter: int) -> None:
    words_per_quarter = 64
    cut = planes.cut(random_codes(width, 1, 16 * words_per_quarter))
    high, mid, low = (plane.view(-1, 4).view(torch.int32).flatten().tolist() for plane in cut)
    codes = planes.join(*(*cut[: width // 2 - 1], None, None)[:3], 16 * words_per_quarter)
    expected = codes.view(4, words_per_quarter, 4)[quarter].tolist()
    for index in range(words_per_quarter):
        words = [high[quarter % 2 * words_per_quarter + index], mid[index], low[index]]
        (found,) = run_ptx(codes_ptx(width, quarter), [word & 0xFFFFFFFF for word in words])
        flip = 128 if width == 8 else 0
        assert [byte ^ flip for byte in found.to_bytes(4, "little")] == expected[index]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("type", ["bf16", "fp16"])
def test_ptx_unpacks_exact_values(type: str, width: int) -> None:
    cut = planes.cut(torch.arange(256, dtype=torch.uint8).repeat(1, 4))  # each quarter holds every code
    high, mid, low = (plane.view(-1, 4).view(torch.int32).flatten().tolist() for plane in cut)
    rule = values(width, type)
    assert rule.zero + rule.offset == FORMATS[width].zero_point * 2 ** (width - 8)
    assert rule.factor * rule.unit == 2 ** (8 - width)
    expected = ((torch.arange(256) >> (8 - width)).double() - rule.zero) * rule.unit
    for quarter in range(4):
        text = values_ptx(width, quarter, type)
        for index in range(64):
            words = [high[quarter % 2 * 64 + index], mid[index], low[index]]
            found = run_ptx(text, [word & 0xFFFFFFFF for word in words], outputs=2)
            numbers = torch.cat([halves(word, torch.bfloat16 if type == "bf16" else torch.float16) for word in found])
            assert torch.equal(numbers, expected[4 * index : 4 * index + 4])


def test_refuses() -> None:
    product = real_product(1, 3, 8, 16, torch.float32)
    good = product.arguments(8, torch.float32)
    high, mid, low = good["high"], good["mid"], good["low"]

    def check(**arguments: Any) -> None:
        check_linear(*unflatten("linear", **arguments)[:3])

    check(**good)
    long = torch.zeros(1, 65540, dtype=torch.int8)
    widths = random_widths(1, 8)
    long_high = torch.zeros(8, 32770, dtype=torch.uint8)
    for changes, message in (
        ({"codes": product.codes.int()}, "codes must be int8"),
        ({"codes": torch.tensor(1, dtype=torch.int8)}, "at least one dimension"),
        ({"scale": product.scale[:2]}, r"scale must be torch.float32 of shape \(3,\)"),
        ({"sum": product.sum.long()}, "sum must be torch.int32"),
        ({"high": high.int()}, "high must be uint8"),
        ({"high": high[:, 1:]}, "high does not fit"),
        ({"mid": mid[1:]}, "mid must be uint8, two-dimensional, with as many rows"),
        ({"mid": None}, "low plane needs the mid plane"),
        ({"low": low[:, :2]}, "low does not fit"),
        ({"weight_scale": product.weight.scale[1:]}, r"weight_scale must be float32 of shape \(8,\)"),
        ({"bias": torch.zeros(3)}, r"bias must be .* of shape \(8,\)"),
        ({"bias": torch.zeros(8, dtype=torch.int32)}, "bias must be float32"),
        ({"bias": torch.zeros(8, device="meta")}, "must be on one device"),
        ({"dtype": torch.float64}, "dtype must be float32"),
        ({"nonlinearity": "relu"}, "unknown nonlinearity 'relu'; there are none, gelu"),
        ({"weight_scale": torch.ones(8, 3)}, "16 columns in 3 groups; groups are of 64 or 128"),
        ({"codes": long, "high": long_high, "mid": None, "low": None}, "at most 65536"),
        ({"widths": widths[:7]}, r"widths must be uint8 of shape \(8,\)"),
        ({"widths": widths.int()}, r"widths must be uint8 of shape \(8,\)"),
        ({"widths": widths, "low": None}, "widths of single rows need all three planes"),
        ({"widths": widths.to("meta")}, "must be on one device"),
    ):
        with pytest.raises(RuntimeError, match=message):
            check(**{**good, "nonlinearity": "none", **changes})
    grouped = real_product(1, 3, 8, 128, None, group_size=64).arguments(8, torch.float32)
    with pytest.raises(RuntimeError, match="widths of single rows need one scale a row, not groups"):
        check(**grouped, widths=widths)


@pytest.mark.gpu
@needs_gpu
@needs_triton
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    ("tokens", "rows", "columns"), [(0, 8, 8), (1, 1, 1), (1, 1536, 1536), (50, 130, 259), (1000, 1536, 8960)]
)
def test_a_gpu_gives_the_bits_of_the_cpu(tokens: int, rows: int, columns: int, width: int) -> None:
    for dtype in FLOATS:
        product = real_product(3, tokens, rows, columns, dtype)
        found = torch.ops.tadp.linear(**on_gpu(product.arguments(width, dtype)))
        assert torch.equal(found.cpu(), product.run(width, dtype))


@pytest.mark.gpu
@needs_gpu
@needs_triton
@pytest.mark.parametrize(
    ("tokens", "rows", "columns"), [(0, 8, 8), (1, 1536, 1536), (50, 130, 259), (1000, 1536, 8960)]
)
def test_rows_of_own_widths_on_a_gpu(tokens: int, rows: int, columns: int) -> None:
    for dtype in FLOATS:
        product = real_product(3, tokens, rows, columns, dtype)
        arguments = {**product.arguments(8, dtype), "widths": random_widths(4, rows)}
        found = torch.ops.tadp.linear(**on_gpu(arguments))
        assert torch.equal(found.cpu(), torch.ops.tadp.linear(**arguments))
    with pytest.raises(RuntimeError, match="kernel 'cuda' reads all rows at one width"):
        torch.ops.tadp.linear(**on_gpu(arguments), kernel_name="cuda")


@pytest.mark.gpu
@needs_gpu
@needs_triton
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("tokens", "columns"), [(1, 8960), (50, 1536), (1000, 1536)])
def test_all_candidates_give_the_same_bits(tokens: int, columns: int, width: int) -> None:
    product = real_product(3, tokens, 1536, columns, torch.bfloat16)
    expected = product.run(width, torch.bfloat16)
    arguments = on_gpu(product.arguments(width, torch.bfloat16))
    for name in kernels_for(tokens, 1536, columns, width, torch.cuda.get_device_capability()):
        assert torch.equal(torch.ops.tadp.linear(**arguments, kernel_name=name).cpu(), expected), name


@pytest.mark.gpu
@needs_gpu
@needs_triton
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("nonlinearity", list(reference.NONLINEARITIES))
def test_groups_on_a_gpu(nonlinearity: str, size: int, width: int) -> None:
    for tokens in (1, 50, 300):
        product = real_product(3, tokens, 130, 1536, torch.float32)
        scale = torch.rand(130, 1536 // size, generator=torch.Generator().manual_seed(1)) * 0.01
        sums = reference.sum_codes(product.codes, 1536 // size)
        arguments = {**product.arguments(width, torch.float32), "sum": sums, "weight_scale": scale}
        found = torch.ops.tadp.linear(**on_gpu({**arguments, "nonlinearity": nonlinearity})).cpu()
        exact = taking_arguments(reference.linear)(
            **{**arguments, "dtype": torch.float64, "nonlinearity": nonlinearity}
        )
        assert ((found.double() - exact).abs() <= linear_bound(arguments, nonlinearity)).all()


@pytest.mark.gpu
@needs_gpu
@needs_triton
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [0, 64, 128])
def test_weight_only_on_a_gpu(size: int, dtype: torch.dtype, width: int) -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(130, 1536, generator=torch.Generator().manual_seed(1)), size or None)
    high, mid, low, scale, _ = weight.planes(width)
    arguments = {"high": high, "mid": mid, "low": low, "weight_scale": scale, "bias": torch.ones(130)}
    groups = 1536 // size if size else 0
    for tokens in (1, 50, 300):
        x = tokens_with_outliers(tokens, (tokens, 1536), dtype)
        exact = taking_arguments(reference.weight_only_linear, "weight_only_linear")(
            x, **arguments, dtype=torch.float64
        )
        fits = exact.abs() < torch.finfo(dtype).max
        capability, activations = torch.cuda.get_device_capability(), 8 * x.itemsize
        for name in kernels_for(tokens, 130, 1536, width, capability, activations=activations, groups=groups):
            found = torch.ops.tadp.weight_only_linear(x.cuda(), **on_gpu(arguments), kernel_name=name).cpu()
            bound = weight_only_bound(x, arguments, "none", Tile.parse(name).splits, dtype)
            assert ((found.double() - exact).abs() <= bound)[fits].all(), name


@pytest.mark.gpu
@needs_gpu
@needs_triton
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("size", [None, 64, 128])
def test_restoring_on_a_gpu(size: int | None, width: int) -> None:
    weight = BitPlaneWeight.from_hp(torch.randn(130, 1536, generator=torch.Generator().manual_seed(1)), size)
    for dtype in FLOATS:
        planes = weight.planes(width)
        on_device = [part if part is None else part.cuda() for part in planes[:4]]
        found = torch.ops.tadp.dequantize(*on_device, 1536, dtype)
        assert torch.equal(found.cpu(), reference.dequantize(planes, 1536, dtype))
        x = tokens_with_outliers(1, (300, 1536), dtype).cuda()
        product = torch.ops.tadp.weight_only_linear(x, *on_device, None, "silu", "dequantize")
        assert torch.equal(product, torch.nn.functional.silu(torch.nn.functional.linear(x, found)))

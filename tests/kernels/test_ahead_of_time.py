"""Kernels that are compiled before they run: of every operator and level, for GPUs that need not be there."""

import ast
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from tadp.kernels import BitPlaneWeight
from tadp.kernels.calls import Call
from tadp.kernels.operators import flatten
from tadp.kernels.values import Codes, Epilogue
from tests.kernels.cases import random_widths

triton = pytest.importorskip("triton", reason="triton is not installed")

from tadp.kernels.triton import ahead_of_time  # noqa: E402
from tadp.kernels.triton.linear import linear_kernel  # noqa: E402
from tadp.kernels.triton.pretended import forget_compiled_kernels, gpu_on_this_machine  # noqa: E402

pytestmark = pytest.mark.aot


@pytest.fixture(autouse=True)
def _compile_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    forget_compiled_kernels()


def linear_call(width: int, tokens: int, group_size: int | None = None, mixed: bool = False) -> Call:
    weight = BitPlaneWeight.from_hp(torch.ones(128, 256, dtype=torch.bfloat16), group_size)
    codes = Codes(*torch.ops.tadp.quantize(torch.ones(tokens, 256, dtype=torch.bfloat16), weight.groups))
    planes = weight.planes(width)._replace(widths=random_widths(1, 128) if mixed else None)
    return Call("linear", "", (codes, planes, Epilogue(None, "gelu", torch.bfloat16)))


def weight_only_call(width: int, tokens: int) -> Call:
    weight = BitPlaneWeight.from_hp(torch.ones(128, 256, dtype=torch.bfloat16))
    x = torch.ones(tokens, 256, dtype=torch.bfloat16)
    return Call("weight_only_linear", "", (x, weight.planes(width), Epilogue()))


def attention_call(tokens: int = 192, sparse: bool = False) -> Call:
    q = torch.ones(1, 2, tokens, 64, dtype=torch.bfloat16)
    named = {"block_map": torch.ones(1, 2, -(-tokens // 128), -(-tokens // 64), dtype=torch.bool)} if sparse else {}
    return Call("attention", "", (q, q, q, None, None), named)


def without_memory(call: Call) -> Call:
    """As a graph shows it."""
    if call.operator == "attention":
        arguments = {**dict(zip(("q", "k", "v", "mask", "scale"), call.values, strict=True)), **call.named}
        return Call.of("attention", arguments)
    names = [argument.name for argument in getattr(torch.ops.tadp, call.operator).default._schema.arguments]
    return Call.of(call.operator, dict(zip(names, flatten(*call.values), strict=True)))


CALLS = {
    "8": lambda: linear_call(8, 64),
    "6": lambda: linear_call(6, 300),
    "4, groups": lambda: linear_call(4, 64, 64),
    "6m": lambda: linear_call(8, 64, mixed=True),
    "w8a16": lambda: weight_only_call(8, 17),
    "w4a16, many tokens": lambda: weight_only_call(4, 300),
    "attention": attention_call,
    "sparse attention": lambda: attention_call(1280, sparse=True),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_compiled_is_what_runs(name: str) -> None:
    call = CALLS[name]()
    with gpu_on_this_machine() as asked:
        assert ahead_of_time.compile_for("sm_90", [without_memory(call)]) == len(asked) > 0
        assert not any(found for _, found in asked)
        asked.clear()
        kernel = call.kernel("cpu", "sm_90")
        assert kernel is not None
        call.run(kernel)  # on tensors with memory
        assert asked == []


def test_calls_that_need_the_same_kernels_compile_them_once() -> None:
    with gpu_on_this_machine() as asked:
        calls = [without_memory(linear_call(8, tokens)) for tokens in (65, 66, 65)]
        assert ahead_of_time.compile_for("sm_90", calls) == len(asked)
        assert len(asked) == len(set(asked))


def test_a_kernel_that_does_not_compile_is_left_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise ValueError("ptxas is too old")

    with gpu_on_this_machine() as asked:
        monkeypatch.setattr(triton.backends.nvidia.compiler.CUDABackend, "make_cubin", broken)
        call = without_memory(linear_call(8, 64))
        assert ahead_of_time.compile_for("sm_90", [call]) == 1
        with pytest.raises(ValueError, match="ptxas is too old"):
            call.run(call.kernel("cpu", "sm_90"))
        assert asked == []


@pytest.mark.parametrize("architecture", ["sm_80", "sm_89", "sm_100", "sm_120"])
def test_kernels_are_those_of_the_architecture(architecture: str) -> None:
    calls = [without_memory(CALLS[name]()) for name in ("8", "attention")]
    with gpu_on_this_machine(architecture) as asked:
        ahead_of_time.compile_for(architecture, calls)
        assert {"linear_kernel", "attention_kernel"} <= {name for name, _ in asked}
    with pytest.raises(ValueError, match="'sm_75' is no architecture that kernels exist for"):
        ahead_of_time.compile_for("sm_75", calls)


def test_threads_parse_sources_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    parse, inside, most = ast.parse, 0, 0

    def counted(source: str, *others: Any, **options: Any) -> ast.AST:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.01)
        inside -= 1
        return parse(source, *others, **options)

    monkeypatch.setattr("triton.runtime.jit.ast.parse", counted)
    with ahead_of_time.parsing_one_at_a_time(), ThreadPoolExecutor(4) as pool:
        trees = list(pool.map(lambda _: linear_kernel.parse(), range(8)))
    assert most == 1
    assert all(tree.body[0].name == "linear_kernel" for tree in trees)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: linear_kernel.parse(), range(8)))
    assert most > 1  # it is the turns that part them

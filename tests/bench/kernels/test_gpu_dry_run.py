"""The parts of bench.kernels.gpu_dry_run that need no CUDA build of torch."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx

pytest.importorskip("triton", reason="triton is not installed")

from bench.kernels import gpu_dry_run, own_launches
from bench.kernels.generated import Launch, Written
from bench.kernels.stated_gpu import StatedGpu, stated
from tadp.precision import L8, L16, Recipe


def written(name: str, **types: str) -> Launch:
    """A kernel that stores ten elements to each of its arguments."""
    kernel = Written(name, tuple((key, f"*{kind}") for key, kind in types.items()), frozenset(types), frozenset())
    return Launch(kernel, tuple((key, 10) for key in types))


def seen_of(function: Callable[..., Any], *inputs: torch.Tensor) -> gpu_dry_run.Seen:
    """What is seen of a graph with one call of `function`."""
    graph = fx.Graph()
    nodes = []
    for index, given in enumerate(inputs):
        nodes.append(graph.placeholder(f"input_{index}"))
        nodes[-1].meta["val"] = given
    called = graph.call_function(function, tuple(nodes))
    called.meta["val"] = function(*inputs)
    seen = gpu_dry_run.Seen()
    seen.keep(graph)
    return seen


def test_without_a_cuda_build_it_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr("sys.argv", ["gpu_dry_run"])
    assert gpu_dry_run.main() == 2
    assert "make gpu-dry-run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dtype", "complaint"),
    [(torch.bfloat16, None), (torch.float32, "aten.mm.default multiplies torch.float32"), (torch.float64, "float64")],
)
def test_products_in_wide_types_are_found(dtype: torch.dtype, complaint: str | None) -> None:
    seen = seen_of(torch.ops.aten.mm.default, torch.ones(2, 2, dtype=dtype), torch.ones(2, 2, dtype=dtype))
    found = list(gpu_dry_run.broken([written("triton_poi_fused_add_0", out_ptr0="bf16")], seen, Recipe(L16)))
    assert bool(found) == (complaint is not None)
    assert complaint is None or complaint in "; ".join(found)


def test_a_norm_without_its_quantizer_is_found() -> None:
    fused = written("triton_red_fused_amax_native_layer_norm_0", out_ptr0="i8")
    apart = written("triton_red_fused_native_layer_norm_1", out_ptr0="bf16")
    seen = gpu_dry_run.Seen()
    assert list(gpu_dry_run.broken([fused] * 3, seen, Recipe(L8))) == []
    assert list(gpu_dry_run.broken([fused, fused, apart], seen, Recipe(L8))) == [
        "of 3 kernels with a norm 2 write codes"
    ]
    assert list(gpu_dry_run.broken([], seen, Recipe(L16))) == ["Inductor wrote no kernel"]


def test_what_is_stated_answers_for_the_gpu_and_is_forgotten_again() -> None:
    before = torch.cuda.get_device_capability
    gpu = StatedGpu()
    with stated(gpu):
        assert torch.cuda.get_device_capability(torch.device("cuda")) == (9, 0)
        assert torch.cuda.get_device_properties(0) is gpu
    assert torch.cuda.get_device_capability is before


@pytest.mark.aot
def test_launches_of_own_kernels_are_counted() -> None:
    q = torch.empty((1, 128, 1, 64), dtype=torch.bfloat16, device="meta").transpose(1, 2)
    graph = fx.Graph()
    nodes = [graph.placeholder(name) for name in "qkv"]
    for node in nodes:
        node.meta["val"] = q
    arguments = (*nodes, None, None, 8, "triton-int8_float16-64x64-w4-s2")
    called = graph.call_function(torch.ops.tadp.attention.default, arguments)
    with stated(StatedGpu()):
        assert own_launches.own_launches([called]) == 4  # the mean of keys, codes of q and of k, the product

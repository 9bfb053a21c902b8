"""`precompile=True` leaves no kernel to be compiled in a generation."""

from pathlib import Path

import pytest
import torch
from torch import fx

import tadp
from tadp import passes
from tadp.compiler import variants
from tadp.compiler.first_calls import compile_before_first_calls
from tadp.errors import KernelWarning
from tests.models import tiny_inputs, tiny_transformer

triton = pytest.importorskip("triton", reason="triton is not installed")

from tadp.kernels.triton.pretended import forget_compiled_kernels, gpu_on_this_machine  # noqa: E402

pytestmark = pytest.mark.compiles


@pytest.fixture(autouse=True)
def _compile_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    forget_compiled_kernels()
    torch._dynamo.reset()


@pytest.mark.parametrize("precompile", [True, False])
def test_kernels_are_compiled_before_they_run(precompile: bool) -> None:
    inputs = tiny_inputs()
    inputs["hidden_states"] = torch.randn(1, 4, 5, 16, 16).to(torch.bfloat16)  # 1,280 tokens, so that sparse pays
    with gpu_on_this_machine() as asked, torch.no_grad():
        model = tadp.compile(tiny_transformer(layers=1), policy="static:16", precompile=precompile)
        model(**inputs)
        assert asked == []
        for policy, kernels in (
            ("static:8+sparse50", {"linear_kernel", "attention_kernel", "sparse_attention_kernel"}),
            ("static:w8a16", {"weight_only_kernel", "dequantize_kernel"}),
        ):
            model.tadp.use(policy)
            before = {name for name, _ in asked}
            asked.clear()
            model(**inputs)
            while_running = {name for name, _ in asked}
            asked.clear()
            assert kernels <= (before if precompile else while_running)
            assert (while_running == set()) == precompile
            model(**inputs)
            assert asked == []


def test_kernels_are_compiled_for_new_shapes_before_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead: list[set[str]] = []
    with gpu_on_this_machine() as asked, torch.no_grad():

        def noted(*arguments: object) -> int:
            found = compile_before_first_calls(*arguments)
            ahead.append({name for name, _ in asked})
            asked.clear()
            return found

        monkeypatch.setattr(variants, "compile_before_first_calls", noted)
        model = tadp.compile(tiny_transformer(layers=1), policy="static:8", calibration=None, dynamic=True)
        for size in (4, 16):
            inputs = tiny_inputs()
            inputs["hidden_states"] = torch.randn(1, 4, 2, size, size).to(torch.bfloat16)
            model(**inputs)
            assert asked == []
    assert ahead == [{"linear_kernel"}, {"linear_kernel"}]  # of other tiles the second time


def test_a_device_without_such_kernels_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "calls_in", None)  # would fail when called
    assert compile_before_first_calls([("blocks.0", fx.GraphModule({}, fx.Graph()))], torch.device("cpu")) == 0


def test_a_graph_that_cannot_be_traced_compiles_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: fx.GraphModule, device: torch.device) -> None:
        raise RuntimeError("it depends on data\nand more")

    monkeypatch.setattr(passes, "calls_in", fail)
    graph = fx.GraphModule({}, fx.Graph())
    message = "the kernels of blocks.0 compile when it first runs: RuntimeError: it depends on data$"
    with gpu_on_this_machine(), pytest.warns(KernelWarning, match=message):
        assert compile_before_first_calls([("blocks.0", graph)], torch.device("cpu")) == 0

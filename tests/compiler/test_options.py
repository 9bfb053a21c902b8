"""Options and modes of torch.compile reach Inductor, but for CUDA graphs."""

import warnings

import pytest
import torch

import tadp
from tadp.compiler.options import inductor_options
from tests.models import relative_error, tiny_inputs, tiny_transformer


@pytest.mark.parametrize("mode", ["max-autotune", "reduce-overhead"])
def test_modes_lose_their_cuda_graphs_and_say_so(mode: str) -> None:
    with pytest.warns(UserWarning, match=f"CUDA graphs, which mode='{mode}' asked for, are left out"):
        found = inductor_options(mode, {"shape_padding": True})
    expected = torch._inductor.list_mode_options(mode) | {"triton.cudagraphs": False, "shape_padding": True}
    assert found == expected


def test_options_lose_them_too() -> None:
    with pytest.warns(UserWarning, match="which options asked for"):
        assert inductor_options(None, {"triton.cudagraphs": True}) == {"triton.cudagraphs": False}
    everywhere = torch._inductor.config.patch({"triton.cudagraphs": True})
    with everywhere, pytest.warns(UserWarning, match="which options asked for"):
        assert inductor_options(None, {}) == {"triton.cudagraphs": False}


@pytest.mark.parametrize("mode", [None, "default", "max-autotune-no-cudagraphs"])
def test_what_asks_for_none_is_not_warned_of(mode: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = inductor_options(mode, {})
    assert not found["triton.cudagraphs"]


def test_an_unknown_mode_is_refused_before_anything_is_packed() -> None:
    model = tiny_transformer()
    with pytest.raises(ValueError, match=r"no mode 'fastest'; modes are .*max-autotune"):
        tadp.compile(model, policy="static:8", mode="fastest")
    assert type(model.blocks[0].attn1.to_q.weight) is torch.nn.Parameter


@pytest.mark.compiles
@torch.no_grad()
def test_a_model_runs_in_a_mode_that_asks_for_cuda_graphs() -> None:
    plain = tiny_transformer()(**tiny_inputs())[0]
    with pytest.warns(UserWarning, match="CUDA graphs"):
        model = tadp.compile(tiny_transformer(), policy="static:16", mode="reduce-overhead")
    assert relative_error(model(**tiny_inputs())[0], plain) < 0.02

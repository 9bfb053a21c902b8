"""New resolutions and texts: what they cost in compilations, and that results are right at each of them."""

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

import tadp
from tadp import passes
from tadp.demo.tiny import tiny_of
from tests.models import relative_error, tiny_transformer

pytestmark = pytest.mark.compiles

Inputs = Callable[[int, int, int], dict[str, Any]]
"""Of a number of rows, of columns and of text tokens, the arguments of a forward."""

SHAPES = ((4, 6, 12), (6, 6, 9), (4, 10, 20), (8, 4, 7))
"""The first, one that differs in all, and two that follow. Tokens are a multiple of heads in none, or in some."""


@dataclass
class Compilations:
    """Counts variants that are compiled."""

    count: int = 0
    symbolic: list[bool] = field(default_factory=list)

    def taken(self) -> int:
        """How many there were since this was last called."""
        found, self.count = self.count, 0
        return found


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compilations]:
    torch._dynamo.reset()
    counted, lower = Compilations(), passes.lower

    def counting(graph: Any, *others: Any) -> Any:
        counted.count += 1
        counted.symbolic.append(bool(passes.sizes_of(graph)))
        return lower(graph, *others)

    monkeypatch.setattr(passes, "lower", counting)
    yield counted
    torch._dynamo.reset()


def wan_inputs(rows: int, columns: int, text: int, frames: int = 2) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(rows * columns + text)
    return {
        "hidden_states": torch.randn(1, 4, frames, rows, columns, generator=generator),
        "timestep": torch.full((1,), 900.0),
        "encoder_hidden_states": torch.randn(1, text, 32, generator=generator),
        "return_dict": False,
    }


def _packed(rows: int, columns: int, text: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(rows * columns + text)
    return {
        "hidden_states": torch.randn(1, rows * columns, 16, generator=generator),
        "encoder_hidden_states": torch.randn(1, text, 48, generator=generator),
        "timestep": torch.tensor([0.5]),
        "return_dict": False,
    }


def flux_inputs(rows: int, columns: int, text: int) -> dict[str, Any]:
    grid = torch.cartesian_prod(torch.zeros(1), torch.arange(float(rows)), torch.arange(float(columns)))
    pooled = torch.randn(1, 32, generator=torch.Generator().manual_seed(3))
    own = {"guidance": torch.tensor([3.5]), "pooled_projections": pooled, "txt_ids": torch.zeros(text, 3)}
    return {**_packed(rows, columns, text), **own, "img_ids": grid}


def qwen_inputs(rows: int, columns: int, text: int) -> dict[str, Any]:
    return {**_packed(rows, columns, text), "img_shapes": [[(1, rows, columns)]], "encoder_hidden_states_mask": None}


def wan() -> nn.Module:
    return tiny_transformer(2, torch.float32)


MODELS: dict[str, tuple[Callable[[], nn.Module], Inputs]] = {
    "Wan": (wan, wan_inputs),
    "Flux": (lambda: tiny_of("FluxTransformer2DModel").model(), flux_inputs),
    "Qwen-Image": (lambda: tiny_of("QwenImageTransformer2DModel").model(), qwen_inputs),
}


def run(model: nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(**inputs)[0]
    return result


@pytest.mark.parametrize("name", MODELS)
def test_the_second_shape_is_the_last_one_that_is_compiled(name: str, compilations: Compilations) -> None:
    make, inputs = MODELS[name]
    plain = make()
    model = tadp.compile(copy.deepcopy(plain), policy="staged:16,0.5:8", calibration=None)
    taken = []
    for shape in SHAPES:
        for policy, bound in (("static:16", 1e-4), ("static:8", 0.05)):
            model.tadp.use(policy)
            given = inputs(*shape)
            assert relative_error(run(model, given), run(plain, given)) < bound, (shape, policy)
        taken.append(compilations.taken())
    kinds = len({layer.structure for layer in model.tadp.layers() if layer.structure})
    assert taken == [2 * kinds, 2 * kinds, 0, 0]

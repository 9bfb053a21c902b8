"""New resolutions and texts: what they cost in compilations, and that results are right at each of them."""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

import tadp
from tadp import passes
from tadp.compiler import fixed_sizes, variants
from tadp.demo.tiny import tiny_of
from tadp.policy import Static
from tadp.precision import L6, L8, Level, Recipe
from tadp.runtime import dispatcher
from tadp.runtime.signals import At, Column, Signal, declarations
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


SECOND = {"Wan": ("static:16", "static:8"), "Flux": ("static:8",), "Qwen-Image": ("static:8",)}
BOUNDS = {"static:16": 1e-4, "static:8": 0.05}


@pytest.mark.parametrize("name", MODELS)
def test_the_second_shape_is_the_last_one_that_is_compiled(name: str, compilations: Compilations) -> None:
    make, inputs = MODELS[name]
    plain, policies = make(), SECOND[name]
    model = tadp.compile(copy.deepcopy(plain), policy=policies[0], calibration=None)
    taken = []
    for shape in SHAPES:
        for policy in policies:
            model.tadp.use(policy)
            given = inputs(*shape)
            assert relative_error(run(model, given), run(plain, given)) < BOUNDS[policy], (shape, policy)
        taken.append(compilations.taken())
    kinds = len({layer.structure for layer in model.tadp.layers() if layer.structure})
    assert taken == [len(policies) * kinds, len(policies) * kinds, 0, 0]


@pytest.mark.parametrize(("dynamic", "expected"), [(False, [1, 1]), (True, [1, 0])])
def test_shapes_are_compiled_as_asked(dynamic: bool, expected: list[int], compilations: Compilations) -> None:
    plain = wan()
    model = tadp.compile(copy.deepcopy(plain), policy="static:8", calibration=None, dynamic=dynamic)
    taken = []
    for shape in SHAPES[:2]:
        given = wan_inputs(*shape)
        assert relative_error(run(model, given), run(plain, given)) < 0.05
        taken.append(compilations.taken())
    assert taken == expected
    assert set(compilations.symbolic) == {dynamic}
    rows, columns, text = SHAPES[1]
    assert {layer.tokens for layer in model.tadp.layers() if layer.structure} == {2 * rows * columns, text, None}
    with pytest.raises(ValueError, match=f"compiled already, with dynamic={dynamic}"):
        tadp.compile(model, dynamic=not dynamic)
    assert torch._dynamo.config.assume_static_by_default, "settings outlived the forward"


def test_sizes_that_are_equal_once_are_not_taken_for_one(compilations: Compilations) -> None:
    """The text is as long as the picture, and both as long as a row of a weight."""
    plain = wan()
    model = tadp.compile(copy.deepcopy(plain), policy="static:8", calibration=None, dynamic=True)
    for shape in ((4, 8, 64), (4, 6, 9)):
        given = wan_inputs(*shape)
        assert relative_error(run(model, given), run(plain, given)) < 0.05
    assert compilations.taken() == 1


@dataclass(frozen=True)
class Probing(Static):
    """Measures every forward at 8 bits, and blocks in turn at 6."""

    level: Level = L8
    probe_steps: int = 1000
    shadow_budget: float = 1.0

    def recipes(self) -> tuple[Recipe, ...]:
        return Recipe(L8), Recipe(L6)


def test_signals_are_those_of_code_for_one_shape(compilations: Compilations) -> None:
    found = []
    for dynamic, shapes in ((True, [(6, 12, 12), (10, 16, 9)]), (False, [(10, 16, 9)])):
        torch._dynamo.reset()
        model = tadp.compile(wan(), policy=Probing(), calibration=None, dynamic=dynamic)
        model.tadp.begin()
        for shape in shapes:
            run(model, wan_inputs(*shape))
        found.append([block.values for block in model.tadp.history[-1].signals.blocks])
    assert compilations.symbolic == [True] * 3 + [False] * 3
    for ours, theirs in zip(*found, strict=True):
        assert ours.keys() == theirs.keys()
        for key, values in ours.items():
            assert values == pytest.approx(theirs[key], rel=2e-2, abs=1e-3), key


def test_blocks_are_reused_at_a_new_shape(compilations: Compilations) -> None:
    model = tadp.compile(wan(), policy="static:8+reuse:inf", calibration=None, dynamic=True)
    for shape in ((4, 6, 12), (6, 6, 9)):
        model.tadp.begin(num_steps=6)
        for noise in (1000.0, 900.0, 800.0, 700.0, 600.0):
            assert run(model, wan_inputs(*shape) | {"timestep": torch.full((1,), noise)}).isfinite().all()
        reused = [{str(recipe) for _, recipe in record.plan} == {"0"} for record in model.tadp.history[-5:]]
        assert any(reused)
    assert compilations.taken() == 1


def test_attention_is_made_sparse_from_the_size_on_where_it_pays(compilations: Compilations) -> None:
    model = tadp.compile(wan(), policy="static:8+sparse25", calibration=None, dynamic=True)
    alone = tadp.compile(wan(), policy="static:8+sparse25", calibration=None, dynamic=False)
    taken, levels = [], []
    for rows in (4, 16, 20):
        given = wan_inputs(rows, 16, 12, frames=5)
        ours = run(model, given)
        taken.append(compilations.taken())
        (row,) = [row for row in model.tadp.layers() if row.layer == "blocks.0.attn1"]
        levels.append((str(row.level), bool(row.reason)))
        assert relative_error(ours, run(alone, given)) < 0.02
        compilations.taken()
    assert taken == [1, 1, 0]
    assert levels == [("8", True), ("sparse25", False), ("sparse25", False)]


class Asking(nn.Module):
    """A block that counts its tokens in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = sum(1 / (token + 1) for token in range(x.shape[1]))
        return x + self.down(torch.tanh(self.up(x))) * weight


class Blocks(nn.Module):
    def __init__(self, block: type[nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([block(), block()])

    def forward(self, x: torch.Tensor, timestep: torch.Tensor) -> tuple[torch.Tensor]:
        for block in self.blocks:
            x = block(x)
        return (x,)


class Plain(Asking):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.tanh(self.up(x)))


class Counting(Asking):
    """A block that repeats what it does as often as it is told."""

    def forward(self, x: torch.Tensor, times: int = 1) -> torch.Tensor:
        for _ in range(times):
            x = x + self.down(torch.tanh(self.up(x)))
        return x


class Told(Blocks):
    def forward(self, x: torch.Tensor, timestep: torch.Tensor, times: int = 1) -> tuple[torch.Tensor]:
        for block in self.blocks:
            x = block(x, times)
        return (x,)


class Scaled(Asking):
    """A block that computes with fractions of a size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.tanh(self.up(x))) * (2.5 / x.shape[1])


def blocks_inputs(tokens: int) -> dict[str, Any]:
    x = torch.randn(1, tokens, 32, generator=torch.Generator().manual_seed(tokens))
    return {"x": x, "timestep": torch.tensor([500.0])}


def warnings_of(model: nn.Module, plain: nn.Module, lengths: Iterable[int]) -> list[str]:
    """What is said while a model runs on so many tokens, with the results of the uncompiled one."""
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        for tokens in lengths:
            given = blocks_inputs(tokens)
            assert relative_error(run(model, given), run(plain, given)) < 0.05
    return [str(one.message) for one in recorded if one.category is tadp.PrecisionFallbackWarning]


def test_code_that_asks_for_a_size_is_said_and_right(compilations: Compilations) -> None:
    plain = Blocks(Asking)
    model = tadp.compile(copy.deepcopy(plain), policy="static:8", calibration=None)
    said = warnings_of(model, plain, (6, 8, 10))
    assert compilations.taken() == 3
    assert set(said) == {
        "blocks.0 is compiled anew for each value of dimension 1 of x: its code asks for the number",
    }


def test_code_that_asks_for_another_number_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    monkeypatch.setattr(passes, "lower", lambda graph, *others: passes.Lowered(graph.forward))
    monkeypatch.setattr(fixed_sizes, "MANY", 3)
    model = tadp.compile(Told(Counting), policy="static:8", calibration=None, dynamic=True)
    for times in (2, 3):
        run(model, blocks_inputs(6) | {"times": times})
    message = "blocks.0 was compiled 3 times though its sizes are open: its code asks for some number that it is given"
    with pytest.warns(tadp.PrecisionFallbackWarning, match=message):
        run(model, blocks_inputs(6) | {"times": 4})


def test_numbers_that_follow_from_sizes_are_computed_anew(compilations: Compilations) -> None:
    plain = Blocks(Scaled)
    model = tadp.compile(copy.deepcopy(plain), policy="static:16", calibration=None, dynamic=True)
    for tokens in (6, 8, 60):
        given = blocks_inputs(tokens)
        assert relative_error(run(model, given), run(plain, given)) < 1e-5
    assert compilations.taken() == 1


def _asking_change(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """A measure that asks for the number of tokens."""
    return (after - before).flatten(1).mean(1, keepdim=True).float() * int(before.shape[1])


def test_what_the_compiler_takes_for_granted_is_checked_and_said(
    compilations: Compilations, monkeypatch: pytest.MonkeyPatch
) -> None:
    signal = Signal("asking", At.BLOCK, _asking_change, (Column("asked", "a change"),), "everything")
    monkeypatch.setattr(declarations, "SIGNALS", [*declarations.SIGNALS, signal])
    model = tadp.compile(Blocks(Plain), policy=Probing(shadow_budget=0.0), calibration=None, dynamic=True)
    run(model, blocks_inputs(6))
    assert compilations.taken() == 3
    with pytest.warns(tadp.PrecisionFallbackWarning, match=r"blocks.0 is compiled anew .* holds only where Eq\(x"):
        run(model, blocks_inputs(8))
    assert compilations.taken() == 1  # the one that measures
    alone = tadp.compile(Blocks(Plain), policy=Probing(shadow_budget=0.0), calibration=None, dynamic=False)
    run(alone, blocks_inputs(8))
    ours, theirs = (one.tadp.history[-1].signals.blocks for one in (model, alone))
    for block, other in zip(ours, theirs, strict=True):
        assert block["asked"] == pytest.approx(other["asked"], rel=1e-3)


def test_what_cannot_be_compiled_for_all_sizes_is_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    kinds: list[bool] = []
    lower = passes.lower

    def refusing(graph: Any, *others: Any) -> Any:
        kinds.append(bool(passes.sizes_of(graph)))
        if kinds[-1]:
            raise NotImplementedError("no symbols here")
        return lower(graph, *others)

    monkeypatch.setattr(passes, "lower", refusing)
    plain = Blocks(Plain)
    model = tadp.compile(copy.deepcopy(plain), policy="static:8", calibration=None, dynamic=True)
    said = warnings_of(model, plain, (6, 8, 6, 8))
    assert kinds == [True, False, False]
    assert said == [
        "blocks.0 is compiled anew for each size: it cannot be for all sizes (NotImplementedError: no symbols here)"
    ]


def test_many_shapes_take_no_more_memory_and_no_compilation(
    compilations: Compilations, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "MOST_SIZES", 3)
    monkeypatch.setattr(dispatcher, "MOST_SIZES", 3)
    plain = Blocks(Plain)
    model = tadp.compile(copy.deepcopy(plain), policy="static:8", calibration=None, dynamic=True)
    for tokens in (*range(2, 10), *range(2, 10)):
        given = blocks_inputs(tokens)
        assert relative_error(run(model, given), run(plain, given)) < 0.05
    assert compilations.taken() == 1
    known = model.tadp._variants
    assert len(known._decisions) == len(known._fitting) == len(known._checked) == 3
    assert len(model.tadp._dispatchers[0]._by_sizes) <= 3
    assert {row.tokens for row in model.tadp.layers()} == {9}

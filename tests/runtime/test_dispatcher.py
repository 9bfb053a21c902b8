"""Shadow runs, on pieces that are plain functions: what they measure, and what they must leave alone."""

from dataclasses import dataclass, field

import pytest
import torch

from tadp.errors import PrecisionFallbackWarning
from tadp.precision import L6, L8, L16, MASTER, Plan, Recipe, Role
from tadp.runtime.dispatcher import Dispatcher
from tadp.runtime.explanation import ExplainedLayer
from tadp.runtime.order import Order
from tadp.runtime.pieces import Sizes, Variant
from tadp.runtime.pool import WeightPool

R8, R6, R16 = Recipe(L8), Recipe(L6), Recipe()
FACTORS = {R8: 2.0, R6: 3.0, R16: 2.5}
BLOCKS = ("blocks.0", "blocks.1")
PLAN = Plan.of(dict.fromkeys(BLOCKS, R8))


@dataclass(frozen=True)
class FakePiece:
    name: str
    block: str | None
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dead: tuple[int, ...] = ()
    layers: tuple[tuple[str, int], ...] = ()
    weight: int | None = None
    symbols: tuple[int, ...] = ()


@dataclass(frozen=True)
class FakePartition:
    pieces: tuple[FakePiece, ...]
    slots: int

    def collect(self, environment: list[object]) -> object:
        return environment[self.slots - 1]


class FakePool(WeightPool):
    """One weight, whose master is itself; what is mapped and let go is noted."""

    def __init__(self) -> None:
        super().__init__(lambda weight: pytest.fail("nothing is packed here"))
        self.released: list[str] = []
        self.kept: list[frozenset[str]] = []

    def release_masters(self, block: str) -> None:
        self.released.append(block)

    def keep_masters(self, blocks: frozenset[str]) -> None:
        self.kept.append(blocks)


@dataclass
class FakeCompiler:
    """Blocks that multiply by a factor of the recipe; counts the runs of each."""

    compiled: tuple[Recipe, ...] = tuple(FACTORS)
    stream: int | None = 0
    fails: bool = False
    runs: list[tuple[str, Recipe, bool]] = field(default_factory=list)

    def variant(self, piece: FakePiece, recipe: Recipe, probing: bool, sizes: Sizes = ()) -> Variant:
        def function(x: torch.Tensor, *weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
            self.runs.append((piece.name, recipe, probing))
            torch.rand(1)
            if self.fails and not probing:
                raise RuntimeError("out of memory")
            result = x * FACTORS.get(recipe, FACTORS[R8])
            return (result, torch.ones(len(x), 1)) if probing else (result,)

        readings = (("change", ""),) if probing else ()
        weights = ((1, MASTER),) if recipe == R16 else ()
        return Variant(function, (0,), weights, readings, self.stream if probing else None)

    def dispatcher(self, pool: WeightPool | None = None) -> "Dispatcher[FakePiece]":
        # slots: 0 the input, 1 and 2 weights, 3 what the first block gives, 4 the result
        pieces = (
            FakePiece("blocks.0", "blocks.0", (0, 1), (3,), weight=1),
            FakePiece("blocks.1", "blocks.1", (3, 2), (4,), dead=(3,), weight=2),
        )
        return Dispatcher(FakePartition(pieces, 5), pool or FakePool(), self, Order(Plan()))

    def is_compiled(self, piece: FakePiece, recipe: Recipe, sizes: Sizes = ()) -> bool:
        return recipe in self.compiled

    def layers(self, piece: FakePiece, recipe: Recipe, sizes: Sizes = ()) -> tuple[ExplainedLayer, ...]:
        return ()

    def prepare(self, pieces: object, recipes: object, probed: object) -> None:
        pass


X = torch.arange(1.0, 7.0).reshape(2, 3)
WEIGHTS = (torch.ones(1), torch.zeros(1))


def _run(dispatcher: "Dispatcher[FakePiece]") -> torch.Tensor:
    result = dispatcher(X, *WEIGHTS)
    assert isinstance(result, torch.Tensor)
    return result


def test_a_shadow_run_gives_the_difference_and_leaves_the_result_alone() -> None:
    compiler = FakeCompiler()
    dispatcher = compiler.dispatcher()
    dispatcher.follow(Order(PLAN, True, {"blocks.1": R6}))
    assert torch.equal(_run(dispatcher), X * 4)
    first, second = dispatcher.take_measured()
    assert first.by_name("shadow_error") == {}
    assert second.by_name("shadow_error") == {"6": pytest.approx((0.5, 0.5))}  # 3 against 2, of two samples
    assert compiler.runs == [("blocks.0", R8, True), ("blocks.1", R8, True), ("blocks.1", R6, False)]


def test_random_numbers_go_on_as_if_there_were_no_shadow_runs() -> None:
    drawn = []
    for shadows in ({}, {"blocks.0": R6, "blocks.1": R16}):
        dispatcher = FakeCompiler().dispatcher()
        dispatcher.follow(Order(PLAN, True, shadows))
        torch.manual_seed(0)
        _run(dispatcher)
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]


SHADOWED = Order(PLAN, True, {"blocks.0": R6})


def _ordered(compiler: FakeCompiler, order: Order) -> "Dispatcher[FakePiece]":
    dispatcher = compiler.dispatcher()
    dispatcher.follow(SHADOWED)
    dispatcher.follow(order)
    _run(dispatcher)
    return dispatcher


@pytest.mark.parametrize(
    ("compiler", "order"),
    [
        (FakeCompiler(), Order(PLAN, False, SHADOWED.shadows)),
        (FakeCompiler(), Order(PLAN, True)),
        (FakeCompiler(compiled=(R8,)), SHADOWED),
        (FakeCompiler(stream=None), SHADOWED),
    ],
    ids=["not probing", "none asked for", "not compiled", "works in place"],
)
def test_there_are_no_shadow_runs(compiler: FakeCompiler, order: Order) -> None:
    dispatcher = _ordered(compiler, order)
    assert all(not block.by_name("shadow_error") for block in dispatcher.take_measured())
    assert {recipe for _, recipe, _ in compiler.runs} == {R8}


def test_a_failed_shadow_run_costs_the_measurement_only() -> None:
    with pytest.warns(PrecisionFallbackWarning, match=r"blocks\.0 at 6 failed .* out of memory"):
        dispatcher = _ordered(FakeCompiler(fails=True), SHADOWED)
    first, _ = dispatcher.take_measured()
    assert first.by_name("shadow_error") == {}
    assert first["relative_change"] == (1.0, 1.0)


@pytest.mark.parametrize("role", [None, Role.FFN_UP], ids=["let go", "kept"])
def test_masters_stay_only_where_the_plan_needs_them(role: Role | None) -> None:
    pool = FakePool()
    dispatcher = FakeCompiler().dispatcher(pool)
    recipe = R8 if role is None else Recipe(L8, ((role, L16),))
    order = Order(PLAN.replaced("blocks.0", recipe), True, {"blocks.0": R16})
    assert order.keeps_masters == (frozenset() if role is None else {"blocks.0"})
    dispatcher.follow(order)
    _run(dispatcher)
    assert dispatcher.take_measured()[0].by_name("shadow_error") == {"16": pytest.approx((0.25, 0.25))}
    assert pool.released == ([] if role else ["blocks.0"])


def test_an_order_that_runs_the_same_variants_changes_no_bindings() -> None:
    pool = FakePool()
    dispatcher = FakeCompiler().dispatcher(pool)
    dispatcher.follow(Order(PLAN, True))
    dispatcher.follow(SHADOWED)
    assert pool.kept == [frozenset()]
    dispatcher.follow(Order(PLAN))
    assert pool.kept == [frozenset()] * 2


def test_what_a_failed_forward_measured_is_forgotten() -> None:
    dispatcher = FakeCompiler().dispatcher()
    dispatcher.follow(Order(PLAN, True))
    _run(dispatcher)
    dispatcher.follow(Order(PLAN, True))
    assert dispatcher.take_measured() == []

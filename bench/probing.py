"""A policy that measures as long as it is asked to, and what that costs; part of bench.signals."""

from collections.abc import Callable
from dataclasses import dataclass

import tadp
from bench.interleaving import medians
from bench.model import wide_inputs, wide_transformer
from bench.record import timed
from tadp.policy import Static
from tadp.precision import L6, L8, Level, Recipe
from tadp.runtime.shadows import price

BLOCKS = 2
SHADOWS = {"6": Recipe(L6), "16": Recipe()}


@dataclass(frozen=True)
class Probing(Static):
    """8 bits in every block, all of them measured in the first `steps` steps, with shadow runs at `others`."""

    level: Level = L8
    steps: int = 10**9
    others: tuple[Recipe, ...] = tuple(SHADOWS.values())
    shadow_budget: float = 0.0

    @property
    def probe_steps(self) -> int:
        return self.steps

    def recipes(self) -> tuple[Recipe, ...]:
        return (self.recipe, *self.others)


def shares_of_a_step(seconds: float, budget: float) -> dict[str, float]:
    """What measuring adds to a forward of two blocks of Wan2.1-1.3B's shape, as shares of that forward.

    Args:
        seconds: after which no further round of forwards begins.
        budget: of shadow runs.

    Returns:
        "signals": all signals but shadow errors. "shadow run at 6" and "at 16": running one of the two blocks once
        more. "shadow runs": both in turn, as often as the budget allows.
    """
    model, inputs = tadp.compile(wide_transformer(), policy="static:8"), wide_inputs()

    def forward(policy: Static) -> Callable[[], object]:
        def call() -> object:
            model.tadp.use(policy)
            return model(**inputs)

        return call

    def settled(call: Callable[[], object]) -> float:
        call()  # after a switch weights are bound anew: not part of a step
        return timed(call)

    candidates = {"run": forward(Static(L8)), "probe": forward(Probing())}
    for name, recipe in SHADOWS.items():  # a budget of 1 pays for BLOCKS / price runs
        candidates[name] = forward(Probing(others=(recipe,), shadow_budget=1.0))
    found = medians(candidates, seconds, slow=None, timer=settled)
    shares = {
        f"shadow run at {name}": (found[name] - found["probe"]) * price(recipe) / BLOCKS / found["run"]
        for name, recipe in SHADOWS.items()
    }
    return {
        "signals": (found["probe"] - found["run"]) / found["run"],
        **shares,
        "shadow runs": budget * BLOCKS * sum(shares.values()) / sum(map(price, SHADOWS.values())),
    }

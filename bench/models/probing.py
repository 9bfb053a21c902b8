"""A policy that measures as long as it is asked to, and what that costs; part of bench.models.signals."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import tadp
from bench.models.model import wide_inputs, wide_transformer
from tadp.interleaving import medians, timed
from tadp.policy import Static
from tadp.precision import L6, L8, L16, Level, Recipe
from tadp.runtime.shadows import price_at_16

BLOCKS = 2
SHADOWS = {"6": Recipe(L6), "16": Recipe()}


@dataclass(frozen=True)
class Probing(Static):
    """8 bits in every block, all of them measured in the first `probe_steps` steps, with shadow runs at `others`."""

    level: Level = L8
    probe_steps: int = 10**9
    others: tuple[Recipe, ...] = tuple(SHADOWS.values())
    shadow_budget: float = 0.0

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

    def forwards(policy: Static, count: int = 1) -> Callable[[], object]:
        def call() -> None:
            model.tadp.use(policy)
            for _ in range(count):
                model(**inputs)

        return call

    def settled(call: Callable[[], object]) -> float:
        call()  # after a switch weights are bound anew: not part of a step
        return timed(call)

    probe = forwards(Probing())
    # Apart from the others, which take several times as long: so small a difference needs many rounds.
    signals = medians({"run": forwards(Static(L8)), "probe": probe}, seconds / 2, slow=None, timer=settled)
    prices = {name: price_at_16() if recipe.has(L16) else 1 for name, recipe in SHADOWS.items()}
    counts = {name: math.ceil(price / BLOCKS) for name, price in prices.items()}  # forwards until a budget of 1 pays
    candidates = {
        name: forwards(Probing(others=(SHADOWS[name],), shadow_budget=1.0), count) for name, count in counts.items()
    }
    found = medians({"probe": probe} | candidates, seconds / 2, slow=None, timer=settled)
    shares = {}
    for name, price in prices.items():
        runs = counts[name] * BLOCKS / price
        shares[f"shadow run at {name}"] = (found[name] - counts[name] * found["probe"]) / runs / signals["run"]
    return {
        "signals": (signals["probe"] - signals["run"]) / signals["run"],
        **shares,
        "shadow runs": budget * BLOCKS * sum(shares.values()) / sum(prices.values()),
    }

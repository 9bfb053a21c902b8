"""Shadow runs: which blocks a probe runs once more in which recipe, in turn, and never more than a budget allows."""

from collections.abc import Sequence

import torch

from tadp import processor
from tadp.precision import L16, Plan, Recipe

DEFAULT_BUDGET = 0.05
"""Share of the time of probe steps that shadow runs may take, where a policy names none."""


class ShadowRotation:
    """Hands out shadow runs forward by forward; its turn goes on across steps and generations.

    Blocks are taken to cost the same: a run at 8 bits or below is 1 / blocks of a forward, one at 16 bits a multiple of
    that. A forward adds its budget to what is there to be spent, and as many runs follow as that pays for. Models with
    few blocks so have one run in several forwards, those with many several in each, and both spend the budget on
    average. Times are not measured for it: what is measured must follow from seed, plan and machine alone.
    """

    def __init__(self, price_at_16: int) -> None:
        """What a run at 16 bits counts, in runs at 8 bits; `price_at_16` knows it."""
        self._price_at_16 = price_at_16
        self._turn = 0
        self._saved = 0.0  # in runs at 8 bits

    def choose(self, plan: Plan, recipes: Sequence[Recipe], budget: float) -> dict[str, Recipe]:
        """The recipe of every block that is to be run once more in the next forward.

        Args:
            plan: what the blocks run at in this forward.
            recipes: the candidates.
            budget: share of a forward's time; 0 for no shadow runs.

        Raises:
            ValueError: if the budget is not a share in [0, 1].
        """
        if not 0 <= budget <= 1:
            raise ValueError(f"the budget of shadow runs must be a share between 0 and 1, got {budget}")
        order = turns(plan, recipes)
        if not order or not budget:
            return {}
        self._saved += budget * len(plan)
        blocks = len({block for block, _ in order})
        chosen: dict[str, Recipe] = {}
        while len(chosen) < blocks:
            block, recipe = order[self._turn % len(order)]
            price = self._price_at_16 if recipe.has(L16) else 1
            if block in chosen or price > self._saved + 1e-9:  # budgets such as 0.1 are not exact in binary
                break
            chosen[block] = recipe
            self._saved -= price
            self._turn += 1
        self._saved = min(self._saved, self._price_at_16)  # what a forward has no room for is not for later ones
        return chosen


def price_at_16() -> int:
    """What a run at 16 bits counts on this machine, in runs at 8 bits.

    2 where products of 16 bits run at half the rate of those of 8; 10 on processors without bfloat16 instructions,
    where `python -m bench.models.signals` measured 9.
    """
    slow = not torch.cuda.is_available() and not processor.multiplies_bfloat16()
    return 10 if slow else 2


def worth_trying(recipes: Sequence[Recipe], device: torch.device | None) -> tuple[Recipe, ...]:
    """The recipes that shadow runs may try on a device; None stands for a CPU.

    Weights at 16 bits would be copied to a GPU for one run, which takes several times as long as the run.
    """
    on_gpu = device is not None and device.type != "cpu"
    return tuple(recipe for recipe in recipes if not (on_gpu and recipe.has(L16)))


def turns(plan: Plan, recipes: Sequence[Recipe]) -> list[tuple[str, Recipe]]:
    """Every measured block with every candidate that it does not run at, in the order of their turns.

    Blocks follow each other, and neighbours try different candidates: after one round of the blocks each has been run
    once, and all candidates have been seen.
    """
    candidates_of_all = tuple(dict.fromkeys(recipe.running for recipe in recipes))
    candidates = [
        (block, [recipe for recipe in candidates_of_all if recipe != current.running]) for block, current in plan
    ]
    rounds = max((len(others) for _, others in candidates), default=0)
    return [
        (block, others[(position + turn) % len(others)])
        for turn in range(rounds)
        for position, (block, others) in enumerate(candidates)
        if turn < len(others)
    ]

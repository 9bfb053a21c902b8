"""The schedule for content of a score: the fastest within a bound on the error, or the most precise within limits."""

import math
from dataclasses import dataclass, field
from functools import cached_property

from tadp.planning.blocks import ends
from tadp.planning.costs import Costs, Schedule
from tadp.planning.problem import Menu, Problem
from tadp.precision import Plan, Recipe

_HARDEST = 1.0
_MEDIUM = 0.5
_SCORE_STEP = 0.05


@dataclass(frozen=True)
class Planner:
    """Solves for schedules of one model, each score once.

    The first stage is the probe's: nothing is known of the content yet, so it runs at what the bounds allow for content
    of medium complexity.

    Attributes:
        costs: of the model.
        recipes: what blocks may run at.
        keep_ends: leaves the first and the last block of every list at 16 bits, attention included.
        quality: predicted PSNR against 16 bits, in dB, that is to be reached as fast as possible. None: as much as the
            limits allow.
        latency: seconds that a generation may take; None for no limit.
        memory: bytes that weights may take; None for no limit.
        deviations: how many standard deviations of its prediction the error is overestimated by.
    """

    costs: Costs
    recipes: tuple[Recipe, ...]
    keep_ends: bool = True
    quality: float | None = None
    latency: float | None = None
    memory: float | None = None
    deviations: float = 0.0
    _solved: dict[float, tuple[Schedule, bool]] = field(
        default_factory=dict, init=False, compare=False, hash=False, repr=False
    )

    @cached_property
    def kept(self) -> frozenset[str]:
        """Blocks that stay at 16 bits."""
        return ends(self.costs.blocks) if self.keep_ends else frozenset()

    @cached_property
    def probe(self) -> Plan:
        """The first stage, the same for all content."""
        return self._solve(self._problem(self._menu), _MEDIUM)[0][0]

    def schedule(self, score: float) -> Schedule:
        """The plan of every stage for content of a score.

        Raises:
            ValueError: where no plan lies within the limits.
        """
        return self.solve(score)[0]

    def solve(self, score: float) -> tuple[Schedule, bool]:
        """The schedule for a score, and whether it lies within the bound on quality; if not, it is the best there is.

        Raises:
            ValueError: where no plan lies within the limits.
        """
        rounded = self.rounded(score)
        if rounded not in self._solved:
            settled = {block: (recipe,) for block, recipe in self.probe}
            self._solved[rounded] = self._solve(self._problem(settled), rounded)
        return self._solved[rounded]

    def rounded(self, score: float) -> float:
        """The score that is solved for, a multiple of 0.05: contents that hardly differ share a schedule."""
        return min(math.ceil(score / _SCORE_STEP - 1e-9) * _SCORE_STEP, _HARDEST)

    def check_limits(self) -> None:
        """Solve for content of medium complexity.

        Raises:
            ValueError: where no plan lies within latency and memory; the message says what is possible.
        """
        problem = self._problem(self._menu)
        possible = {
            "latency": self.costs.seconds(problem.least(lambda cost: cost.seconds)),
            "memory": self.costs.bytes(problem.least(lambda cost: cost.bytes)),
        }
        for name, amount in possible.items():
            limit = getattr(self, name)
            if limit is not None and amount > limit:
                raise ValueError(f"a {name} of {limit:g} is not possible: this model needs at least {amount:.4g}")
        self.schedule(_MEDIUM)

    @cached_property
    def _menu(self) -> Menu:
        """What each block may run at."""
        return {
            block: (Recipe(),) if block in self.kept else self.costs.worthwhile(block, self.recipes)
            for block in self.costs.blocks
        }

    def _problem(self, first: Menu) -> Problem:
        """What there is to choose, given what the first stage may run at."""
        return Problem(self.costs, (first, *[self._menu] * len(self.costs.stages)), self.latency, self.memory)

    def _solve(self, problem: Problem, score: float) -> tuple[Schedule, bool]:
        if self.quality is not None:
            scale = self.costs.scale(score) * 10 ** (self.deviations * self.costs.spread)
            fastest = problem.fastest(10 ** (-self.quality / 10) / scale)
            if fastest is not None:
                return fastest, True
        best = problem.best()
        if best is None:
            raise ValueError("no plan lies within the limits of latency and memory")
        return best, self.quality is None

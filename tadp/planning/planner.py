"""The schedule for content of a score: the fastest within a bound on the error, or the most precise within limits."""

import math
from dataclasses import dataclass, field
from functools import cached_property

from tadp.planning.blocks import ends
from tadp.planning.costs import MEDIUM, Costs, Schedule
from tadp.planning.problem import Menu, Problem
from tadp.precision import Plan, Recipe

Bounds = tuple[float, ...]
"""Of reuse, in every stage; 0 for none."""

_HARDEST = 1.0
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
        memory: bytes that weights, and residuals for reuse, may take; None for no limit.
        deviations: how many standard deviations of its prediction the error is overestimated by.
        reuse: the largest bound of reuse to choose from, of those that were calibrated; 0 for none.
    """

    costs: Costs
    recipes: tuple[Recipe, ...]
    keep_ends: bool = True
    quality: float | None = None
    latency: float | None = None
    memory: float | None = None
    deviations: float = 0.0
    reuse: float = math.inf
    _solved: dict[float, tuple[Schedule, bool]] = field(
        default_factory=dict, init=False, compare=False, hash=False, repr=False
    )

    @cached_property
    def kept(self) -> frozenset[str]:
        """Blocks that stay at 16 bits."""
        return ends(self.costs.blocks) if self.keep_ends else frozenset()

    @cached_property
    def worthwhile(self) -> tuple[Recipe, ...]:
        """What any block may run at: 16 bits, and recipes that gain something for what they lose."""
        return tuple(dict.fromkeys((Recipe(), *(recipe for menu in self._menu.values() for recipe in menu))))

    @cached_property
    def probe(self) -> Plan:
        """The first stage, the same for all content: one recipe for all blocks that are not kept at 16 bits.

        Errors of single blocks do not add up there. As long as a clip is not settled, the smallest rounding sends it
        another way, so lowering few blocks costs what lowering all of them costs.

        Raises:
            ValueError: where no plan lies within the limits.
        """
        solved = [self._solve(first, MEDIUM) for first in self._first_menus]
        possible = [(schedule, within) for schedule, within in solved if schedule]
        if not possible:
            raise ValueError("no plan lies within the limits of latency and memory")
        if self.quality is not None and any(within for _, within in possible):
            reached = [schedule for schedule, within in possible if within]
            found = min(reached, key=lambda schedule: self.costs.seconds(schedule, MEDIUM))[0]
        else:
            found = min((schedule for schedule, _ in possible), key=lambda each: self.costs.mse(each, MEDIUM))[0]
        return found

    def schedule(self, score: float) -> Schedule:
        """The plan of every stage for content of a score.

        Raises:
            ValueError: where no plan lies within the limits.
        """
        return self.solve(score)[0]

    def solve(self, score: float) -> tuple[Schedule, bool]:
        """The schedule for a score, and whether it lies within all bounds; if not, it is the best there is.

        Complex content may take longer than a latency that content of medium complexity keeps, because less of it can
        be reused: then the schedule is the fastest.

        Raises:
            ValueError: where no plan for content of medium complexity lies within the limits.
        """
        rounded = self.rounded(score)
        if rounded not in self._solved:
            settled = {block: (recipe.running,) for block, recipe in self.probe}
            schedule, within = self._solve(settled, rounded)
            if not schedule:
                unlimited = [self._problem(settled, bounds, rounded, latency=None) for bounds in self._options]
                fastest = [found for problem in unlimited if (found := problem.fastest(None)) is not None]
                schedule = min(fastest, key=lambda found: self.costs.seconds(found, rounded))
            self._solved[rounded] = schedule, within
        return self._solved[rounded]

    def rounded(self, score: float) -> float:
        """The score that is solved for, a multiple of 0.05: contents that hardly differ share a schedule."""
        return min(math.ceil(score / _SCORE_STEP - 1e-9) * _SCORE_STEP, _HARDEST)

    def check_limits(self) -> None:
        """Solve for content of medium complexity.

        Raises:
            ValueError: where no plan lies within latency and memory; the message says what is possible.
        """
        problems = [self._problem(first, bounds, MEDIUM) for first in self._first_menus for bounds in self._options]
        possible = {
            "latency": min(self.costs.seconds(problem.least(lambda cost: cost.seconds)) for problem in problems),
            "memory": min(self.costs.bytes(problem.least(lambda cost: cost.bytes)) for problem in problems),
        }
        for name, amount in possible.items():
            limit = getattr(self, name)
            if limit is not None and amount > limit:
                raise ValueError(f"a {name} of {limit:g} is not possible: this model needs at least {amount:.4g}")
        self.schedule(MEDIUM)

    @cached_property
    def _menu(self) -> Menu:
        """What each block may run at."""
        return {
            block: (Recipe(),) if block in self.kept else self.costs.worthwhile(block, self.recipes)
            for block in self.costs.blocks
        }

    @cached_property
    def _first_menus(self) -> tuple[Menu, ...]:
        """What the first stage may run at: one recipe for all blocks but those that are kept."""
        chosen = [menu for block, menu in self._menu.items() if block not in self.kept] or [(Recipe(),)]
        return tuple(
            {block: (Recipe(),) if block in self.kept else (recipe,) for block in self.costs.blocks}
            for recipe in dict.fromkeys(recipe for menu in chosen for recipe in menu)
        )

    @cached_property
    def _options(self) -> tuple[Bounds, ...]:
        """Where reuse may be, and within which bound: nowhere, or from some stage after the probe on.

        In a stage without a share of the error nothing was left out at 16 bits, so what reuse costs there is not known.
        """
        reuse, stages = self.costs.reuse, range(len(self.costs.stages) + 1)
        none = tuple(0.0 for _ in stages)
        if reuse is None:
            return (none,)
        known = [stage for stage in stages if reuse.shares[stage] > 0]
        chosen = [bound for bound in reuse.bounds if bound <= self.reuse]
        return (
            none,
            *(
                tuple(bound if stage >= first and stage in known else 0.0 for stage in stages)
                for bound in chosen
                for first in known
            ),
        )

    def _problem(self, first: Menu, bounds: Bounds, score: float, latency: float | None = None) -> Problem:
        """What there is to choose, given what the first stage may run at and where reuse is."""
        menus = (first, *[self._menu] * len(self.costs.stages))
        keeps = len(self._options) > 1  # the probe is the same for all content: some of it begins to reuse after it
        return Problem(self.costs, menus, bounds, score, latency, self.memory, keeps)

    def _solve(self, first: Menu, score: float) -> tuple[Schedule, bool]:
        """The best schedule, wherever reuse is, and whether it lies within the bound on quality; () where none does."""
        problems = [self._problem(first, bounds, score, self.latency) for bounds in self._options]
        if self.quality is not None:
            fastest = [self._fastest(problem, 10 ** (-self.quality / 10)) for problem in problems]
            if found := [schedule for schedule in fastest if schedule is not None]:
                return min(found, key=lambda schedule: self.costs.seconds(schedule, score)), True
        best = [problem.best() for problem in problems]
        if found := [schedule for schedule in best if schedule is not None]:
            return min(found, key=lambda schedule: self.costs.mse(schedule, score)), self.quality is None
        return (), False

    def _fastest(self, problem: Problem, mse: float) -> Schedule | None:
        """The fastest schedule of a problem whose squared error, overestimated, is at most `mse`."""
        costs, score = self.costs, problem.score
        of_reuse = 0.0 if costs.reuse is None else costs.reuse.mse(problem.bounds, score)
        room = mse / 10 ** (self.deviations * costs.spread) - of_reuse
        return None if room < 0 else problem.fastest(room / costs.scale(score))

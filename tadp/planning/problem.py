"""The problem that a budget solves: a recipe for every block in every stage."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from tadp.planning.costs import MEDIUM, BlockCost, Costs, Schedule
from tadp.planning.solver import Limit, choose
from tadp.precision import Plan, Recipe, Reuse

Menu = Mapping[str, tuple[Recipe, ...]]
"""What each block may run at."""

_TIE = 1e-3
"""What the whole error at the base recipe counts against all seconds: of equally fast schedules the better one wins."""


@dataclass(frozen=True)
class Problem:
    """Costs, what may be chosen, and limits.

    Attributes:
        costs: of the model.
        menus: of every stage.
        bounds: of reuse in every stage, 0 for none.
        score: of the content, which tells how much reuse leaves out.
        latency: seconds of a generation; None for no limit.
        memory: bytes of weights and of residuals; likewise.
        keeps: whether the first stage keeps residuals in any case.
    """

    costs: Costs
    menus: tuple[Menu, ...]
    bounds: tuple[float, ...]
    score: float = MEDIUM
    latency: float | None = None
    memory: float | None = None
    keeps: bool = False

    def fastest(self, room: float | None) -> Schedule | None:
        """The fastest schedule within the limits.

        Args:
            room: what its error may come to, 1 being that of the base recipe; None for any error.
        """
        errors, seconds = self._errors(), self._seconds()
        whole = max(sum(map(max, seconds)), 1e-12)
        objective = [
            [time / whole + _TIE * error for time, error in zip(*group, strict=True)]
            for group in zip(seconds, errors, strict=True)
        ]
        quality = () if room is None else (Limit(errors, room),)
        return self._schedule(choose(objective, (*quality, *self._limits())))

    def best(self) -> Schedule | None:
        """The schedule of least error within the limits; None where there is none."""
        return self._schedule(choose(self._errors(), tuple(self._limits())))

    def least(self, cost: Callable[[BlockCost], float]) -> Schedule:
        """The schedule that takes least of something, whatever the limits."""
        blocks = self.costs.blocks

        def cheapest(block: str, menu: tuple[Recipe, ...]) -> int:
            return min(range(len(menu)), key=lambda pick: cost(blocks[block][menu[pick]]))

        found = self._schedule(tuple(cheapest(block, menu) for _, block, menu in self._choices()))
        assert found is not None
        return found

    def _choices(self) -> Iterator[tuple[int, str, tuple[Recipe, ...]]]:
        for stage, menus in enumerate(self.menus):
            for block, menu in menus.items():
                yield stage, block, menu

    def _errors(self) -> list[list[float]]:
        """What every choice adds to the error."""
        costs = self.costs
        return [
            [costs.weight(stage) * costs.blocks[block][recipe].error[stage] for recipe in menu]
            for stage, block, menu in self._choices()
        ]

    def _seconds(self) -> list[list[float]]:
        """What every choice adds to the seconds of a generation."""
        costs, steps = self.costs, self.costs.running_steps(self.bounds, self.score)
        return [
            [steps[stage] * costs.blocks[block][recipe].seconds for recipe in menu]
            for stage, block, menu in self._choices()
        ]

    def _limits(self) -> Iterator[Limit]:
        if self.latency is not None:
            yield Limit(self._seconds(), self.latency - self.costs.other_seconds)
        for limited in range(len(self.menus)) if self.memory is not None else ():
            assert self.memory is not None
            amounts = [
                [self.costs.blocks[block][recipe].bytes if stage == limited else 0 for recipe in menu]
                for stage, block, menu in self._choices()
            ]
            reuse = self.costs.reuse
            residuals = 0 if reuse is None or self._reuse(limited) is None else reuse.bytes
            yield Limit(amounts, self.memory - self.costs.other_bytes - residuals)

    def _schedule(self, picks: tuple[int, ...] | None) -> Schedule | None:
        if picks is None:
            return None
        plans: list[list[tuple[str, Recipe]]] = [[] for _ in self.menus]
        for (stage, block, menu), pick in zip(self._choices(), picks, strict=True):
            plans[stage].append((block, replace(menu[pick], reuse=self._reuse(stage))))
        return tuple(map(Plan.of, plans))

    def _reuse(self, stage: int) -> Reuse | None:
        """Leave to reuse in a stage; stages before the first that has one keep what it begins with."""
        keeps = any(self.bounds[stage:]) or (stage == 0 and self.keeps)
        return Reuse(self.bounds[stage]) if keeps else None

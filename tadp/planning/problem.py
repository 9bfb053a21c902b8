"""The problem that a budget solves: a recipe for every block in every stage."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tadp.planning.costs import BlockCost, Costs, Schedule
from tadp.planning.solver import Limit, choose
from tadp.precision import Plan, Recipe

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
        latency: seconds of a generation; None for no limit.
        memory: bytes of weights; likewise.
    """

    costs: Costs
    menus: tuple[Menu, ...]
    latency: float | None = None
    memory: float | None = None

    def fastest(self, room: float) -> Schedule | None:
        """The fastest schedule within the limits whose error is at most `room`, 1 being that of the base recipe."""
        errors, seconds = self._errors(), self._seconds()
        whole = max(sum(map(max, seconds)), 1e-12)
        objective = [
            [time / whole + _TIE * error for time, error in zip(*group, strict=True)]
            for group in zip(seconds, errors, strict=True)
        ]
        return self._schedule(choose(objective, (Limit(errors, room), *self._limits())))

    def best(self) -> Schedule | None:
        """The schedule of least error within the limits; None where there is none."""
        return self._schedule(choose(self._errors(), tuple(self._limits())))

    def least(self, cost: Callable[[BlockCost], float]) -> Schedule:
        """The schedule that takes least of something, whatever the limits."""
        blocks = self.costs.blocks
        return tuple(
            Plan.of((block, min(menu, key=lambda recipe: cost(blocks[block][recipe]))) for block, menu in menus.items())
            for menus in self.menus
        )

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
        costs = self.costs
        return [
            [costs.steps[stage] * costs.blocks[block][recipe].seconds for recipe in menu]
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
            yield Limit(amounts, self.memory - self.costs.other_bytes)

    def _schedule(self, picks: tuple[int, ...] | None) -> Schedule | None:
        if picks is None:
            return None
        plans: list[list[tuple[str, Recipe]]] = [[] for _ in self.menus]
        for (stage, block, menu), pick in zip(self._choices(), picks, strict=True):
            plans[stage].append((block, menu[pick]))
        return tuple(map(Plan.of, plans))

"""Clock: which generation, which step and which guidance branch a forward belongs to."""

from dataclasses import dataclass

CONDITIONAL = "cond"
UNCONDITIONAL = "uncond"


@dataclass(frozen=True)
class Tick:
    """One forward of the model: generation and step count from 1; `branch` is "cond", "uncond", "cond#2" and so on."""

    generation: int
    step: int
    branch: str
    timestep: float | None


class Clock:
    """Tells time from the timesteps that a model is called with, and from the pipeline where it says more.

    Samplers walk timesteps downwards, or upwards, which the first steps after `begin` tell: a call that goes the other
    way begins a new generation, one at an equal timestep is the next guidance branch of the same step. What a pipeline
    announces (branch, step) goes before what is inferred.
    """

    def __init__(self) -> None:
        self._generation = 0
        self._step = 0
        self._timestep: float | None = None
        self._branches: list[str] = []
        self._direction = -1
        self._direction_known = True
        self._announced_branch: str | None = None
        self._announced_step: int | None = None

    @property
    def generation(self) -> int:
        """Number of the generation under way; 0 before the first."""
        return self._generation

    def begin(self) -> None:
        """Start of a generation: the next forward is its first step, whatever its timestep."""
        self._next_generation()
        self._direction_known = False

    def _next_generation(self) -> None:
        self._generation += 1
        self._step = 0
        self._timestep = None
        self._branches = []

    def announce(self, branch: str | None, step: int | None) -> None:
        """What the pipeline says of the forwards to come; None takes it back."""
        self._announced_branch = branch
        self._announced_step = step

    def tick(self, timestep: float | None) -> Tick:
        """Count one forward."""
        if self._generation == 0 or self._restarts(timestep):
            self._next_generation()
        if self._step == 0 or self._advances(timestep):
            self._step += 1
            self._branches = []
        if timestep is not None and self._timestep is not None and timestep != self._timestep:
            self._direction = 1 if timestep > self._timestep else -1
            self._direction_known = True
        self._timestep = timestep
        branch = self._announced_branch or (CONDITIONAL if not self._branches else UNCONDITIONAL)
        repeats = self._branches.count(branch)
        self._branches.append(branch)
        return Tick(self._generation, self._step, branch if not repeats else f"{branch}#{repeats + 1}", timestep)

    def _restarts(self, timestep: float | None) -> bool:
        if self._announced_step is not None:
            return self._announced_step == 0 and self._step > 1
        if timestep is None or self._timestep is None or not self._direction_known:
            return False
        return (timestep - self._timestep) * self._direction < 0

    def _advances(self, timestep: float | None) -> bool:
        if timestep is None or self._timestep is None:
            return True
        return timestep != self._timestep

"""The controller of a compiled module: it follows a generation step by step and sets the variant of every piece."""

import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch

from tadp.complexity.content import of_images
from tadp.complexity.score import Score
from tadp.errors import PrecisionFallbackWarning
from tadp.planning.calibration import Calibration, check_levels
from tadp.policy import Policy, Seen, parse
from tadp.policy.plans import uniform_plan
from tadp.precision import L16, Plan, Recipe
from tadp.runtime.clock import Clock, Tick
from tadp.runtime.dispatcher import Dispatcher
from tadp.runtime.explanation import Explanation
from tadp.runtime.generation import Generation
from tadp.runtime.heap import give_back_freed_memory
from tadp.runtime.pool import WeightPool
from tadp.runtime.record import StepRecord
from tadp.runtime.shadows import ShadowRotation, price_at_16
from tadp.runtime.signals import HasBlockMap, Signals, prediction_of, read_block_maps

Result = TypeVar("Result")

HISTORY_LENGTH = 10_000


class Controller:
    """Holds policy, clock, plan and history of one compiled module; reached as ``compiled.tadp``."""

    def __init__(
        self,
        policy: "str | Policy",
        pool: WeightPool,
        *,
        prepare: Callable[[Policy], None],
        explain: Callable[[Plan], Explanation],
        blocks: Sequence[str] = (),
        other_weight_bytes: int = 0,
        mapped: Sequence[tuple[str, HasBlockMap]] = (),
    ) -> None:
        self.clock = Clock()
        self._policy = parse(policy)
        self._fingerprint = ""
        self._calibration: Calibration | None = None
        self._pool = pool
        self._prepare = prepare
        self._explain = explain
        self._blocks = tuple(blocks)
        self._other_weight_bytes = other_weight_bytes
        self._mapped = tuple(mapped)
        self._shadow_rotation = ShadowRotation(price_at_16())
        self._shadows: dict[str, Recipe] = {}
        self._dispatchers: list[Dispatcher[Any]] = []
        self._history: deque[StepRecord] = deque(maxlen=HISTORY_LENGTH)
        self._companions: tuple[Controller, ...] = ()
        self._generation = Generation(0)
        self._trimmed = 0  # the last generation before which freed memory was given back
        self._probing = False
        self._plan = self._policy.plan(Seen(self._blocks))
        self._followed: tuple[Plan, bool] | None = None
        self._laid: tuple[tuple[object, ...], Plan] | None = None

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

    @property
    def plan(self) -> Plan:
        """What every block runs at."""
        return self._plan

    @property
    def score(self) -> Score | None:
        """Complexity of the content of the current generation; None until it is known."""
        return self._generation.score

    @property
    def history(self) -> tuple[StepRecord, ...]:
        """A record per forward, oldest first; of the last `HISTORY_LENGTH` forwards."""
        return tuple(self._history)

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks whose precision is chosen, in running order."""
        return self._blocks

    def use(self, policy: "str | Policy") -> None:
        """Follow another policy from the next forward on, also in the middle of a generation.

        Nothing that was compiled before is compiled again; recipes that no policy has asked for yet are compiled here.

        Raises:
            ValueError: for an unknown policy, and for levels that need a calibration; the one in force stays.
        """
        chosen = parse(policy)
        if self._calibration is not None:
            chosen = chosen.calibrated(self._calibration)
        check_levels(chosen.recipes(), self._calibration)
        self._prepare(chosen)
        self._policy = chosen
        self._plan, self._probing = self._choose(self._generation, step=None)
        for companion in self._companions:
            companion.use(chosen)

    def identify(self, fingerprint: str, calibration: Calibration | None) -> None:
        """Know the model by the fingerprint that it had before its weights were packed, and what was measured of it."""
        self._fingerprint = fingerprint
        if calibration is not None:
            self._take(calibration)

    def learn(self, calibration: Calibration) -> None:
        """Let all policies from now on use what was measured of this model; the one in force is given anew by `use`.

        Raises:
            ValueError: for a calibration of another model or of other versions.
        """
        calibration.check(self._fingerprint)
        self._take(calibration)

    def _take(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._pool.read_channels_at(calibration.channel_widths)
        for dispatcher in self._dispatchers:
            dispatcher.forget_weights()

    @property
    def calibration(self) -> Calibration | None:
        """What was measured of this model; None where nothing was given."""
        return self._calibration

    def lead(self, companions: Iterable["Controller"]) -> None:
        """Pass changes of policy on to the controllers of a pipeline's other transformers."""
        self._companions = tuple(companions)

    def relocate(self) -> None:
        """Forget where weights are: they were moved to another device and are bound anew at the next forward."""
        for dispatcher in self._dispatchers:
            dispatcher.forget_weights()
        self._pool.keep_masters(frozenset())

    def begin(
        self, prompt: str | Sequence[str] | None = None, image: object = None, num_steps: int | None = None
    ) -> None:
        """Announce a generation, where no pipeline does.

        Args:
            prompt: what it is to show: one text or, for a batch, several, of which the most complex counts.
            image: first frame of an image-to-video generation, in any form that `tadp.complexity.image.score` takes; of
                several, in a list or as a batch, the mean counts.
            num_steps: how many steps it will take; tells how far a model is that takes no timestep.

        Raises:
            TypeError, ValueError: for an image that cannot be scored; the generation before is still the current one.
        """
        picture = of_images(image)
        self.clock.begin()
        prompts = () if prompt is None else (prompt,) if isinstance(prompt, str) else tuple(prompt)
        self._generation = Generation(self.clock.generation, prompts, picture, num_steps=num_steps)

    def explain(self) -> Explanation:
        """Every piece with its structure, roles, levels, kernels, bytes, and the reason for every fallback."""
        return self._explain(self._plan)

    def weight_bytes(self) -> int:
        """Bytes of the module's weights in memory now: bit planes, whatever is not packed, and masters mapped in."""
        return self._pool.plane_bytes + self._pool.master_bytes + self._other_weight_bytes

    def attach(self, dispatcher: Dispatcher[Any], blocks: Iterable[str]) -> None:
        """Take charge of a newly captured graph and of the blocks found in it."""
        self._dispatchers.append(dispatcher)
        known = tuple(dict.fromkeys((*self._blocks, *blocks)))
        if known != self._blocks:
            self._blocks = known
            score = self._generation.score
            total = None if self._probing or score is None else score.total
            self._follow(self._ask(total, self._generation), self._probing)
        dispatcher.use(self._plan, self._probing)
        dispatcher.shadow(self._shadows)

    def step(
        self, timestep: float | None, forward: Callable[[], Result], inputs: Iterable[tuple[str, torch.Tensor]] = ()
    ) -> Result:
        """Run one forward of the model, follow the policy, and record what happened.

        Raises:
            ValueError: where `inputs`, looked at in the first step of a generation, hold NaN or infinity.
        """
        tick = self.clock.tick(timestep)
        if tick.step == 1:
            for name, tensor in inputs:
                if not tensor.isfinite().all():
                    raise ValueError(f"input {name!r} of the model holds NaN or infinity")
        if tick.generation != self._generation.number:
            self._generation = Generation(tick.generation)
        if self._trimmed != tick.generation:
            self._trimmed = tick.generation
            give_back_freed_memory()
        generation = self._generation
        generation.follow(tick)
        plan, probing = self._choose(generation, tick.step)
        self._follow(plan, probing)
        self._shadow(plan, probing)
        for dispatcher in self._dispatchers:
            dispatcher.take_measured()  # left over where an earlier forward failed
        started = time.perf_counter()
        result = forward()
        signals = self._collect(generation, tick, prediction_of(result)) if probing else None
        if generation.fallback and probing:
            self._follow(*self._choose(generation, tick.step))
            result = forward()
        seconds = time.perf_counter() - started
        self._history.append(
            StepRecord(
                generation=tick.generation,
                step=tick.step,
                phase="probe" if probing else "run",
                branch=tick.branch,
                timestep=timestep,
                signals=signals,
                score=None if generation.score is None else generation.score.total,
                plan=self._plan,
                seconds=seconds,
            )
        )
        return result

    def _choose(self, generation: Generation, step: int | None) -> tuple[Plan, bool]:
        """The plan for a step, and whether to measure in it; no step means whatever comes next."""
        policy = self._policy
        if generation.fallback:
            return uniform_plan(self._blocks, Recipe(L16), keep_ends=False), False
        probing = len(generation.probed_steps) < policy.probe_steps or step in generation.probed_steps
        if policy.probe_steps and not probing and generation.score is None:
            generation.score = generation.judge(self._blocks, policy)
        total = generation.score.total if generation.score is not None and not probing else None
        return self._lay(generation, total), probing

    def _lay(self, generation: Generation, total: float | None) -> Plan:
        """The policy's plan; the last one again while nothing that it depends on has changed."""
        grounds = (
            self._policy,
            self._blocks,
            total,
            generation.number,
            len(generation.signals),
            generation.stage(self._policy.stages),
        )
        if self._laid is None or self._laid[0] != grounds:
            self._laid = grounds, self._ask(total, generation)
        return self._laid[1]

    def _ask(self, total: float | None, generation: Generation) -> Plan:
        """Ask the policy for a plan."""
        stage = generation.stage(self._policy.stages)
        return self._policy.plan(Seen(self._blocks, total, tuple(generation.signals), stage))

    def _follow(self, plan: Plan, probing: bool) -> None:
        """Let the dispatchers run a plan; masters that it needs no longer are let go here, not in `use`."""
        self._plan, self._probing = plan, probing
        if self._followed == (plan, probing):
            return
        self._followed = plan, probing
        at_16 = frozenset(block for block, recipe in plan if recipe.has(L16))
        for dispatcher in self._dispatchers:
            dispatcher.use(plan, probing, keep_masters=at_16)
        self._pool.keep_masters(at_16)

    def _shadow(self, plan: Plan, probing: bool) -> None:
        """Tell the dispatchers which blocks to run once more in the next forward, at which recipe."""
        self._shadows = {}
        if probing:
            self._shadows = self._shadow_rotation.choose(plan, self._policy.recipes(), self._policy.shadow_budget)
        for dispatcher in self._dispatchers:
            dispatcher.shadow(self._shadows)

    def _collect(self, generation: Generation, tick: Tick, prediction: torch.Tensor | None) -> Signals:
        """Take what the dispatchers measured; numbers that are none put the rest of the generation at 16 bits."""
        blocks = [block for dispatcher in self._dispatchers for block in dispatcher.take_measured()]
        signals = generation.take(read_block_maps(Signals(tuple(blocks)), self._mapped), tick, prediction)
        broken = signals.not_finite()
        if broken and not generation.fallback:
            generation.fallback = True
            warnings.warn(
                f"NaN or infinity in {broken[0]} at step {tick.step}: the step is repeated at 16 bits, and the rest of "
                "the generation stays there",
                PrecisionFallbackWarning,
                stacklevel=3,
            )
        return signals

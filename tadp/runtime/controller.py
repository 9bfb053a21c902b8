"""The controller of a compiled module. `Controller.step` is its heart: it tells each forward what to run."""

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

import torch

from tadp.complexity.content import of_images
from tadp.complexity.score import Score
from tadp.errors import PrecisionFallbackWarning
from tadp.kernels.devices import attention_is_faster
from tadp.planning.calibration import Calibration, check_levels
from tadp.policy import Policy, Seen, parse
from tadp.policy.plans import uniform_plan
from tadp.precision import L8, L16, Level, Plan, Recipe, Role
from tadp.runtime.captures import Captures
from tadp.runtime.clock import Clock, Tick
from tadp.runtime.device_memory import available_bytes, free_bytes
from tadp.runtime.dispatcher import Dispatcher
from tadp.runtime.explanation import ExplainedLayer, Explanation, uncompiled
from tadp.runtime.generation import Course, Generation
from tadp.runtime.guidance import GuidanceStore
from tadp.runtime.heap import give_back_freed_memory
from tadp.runtime.order import Order
from tadp.runtime.pieces import PieceCompiler, PieceT, RunnablePartition
from tadp.runtime.planner import Planner
from tadp.runtime.pool import WeightPool
from tadp.runtime.record import History, StepRecord
from tadp.runtime.reuse import ResidualStore, ReuseFailed
from tadp.runtime.shadows import ShadowRotation, price_at_16, worth_trying
from tadp.runtime.signals import HasBlockMap, Signals, prediction_of, read_block_maps

RESIDUAL_SHARE = 2
"""Residuals for reuse may take one part in so many of the memory that is free."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model before it runs.

    Attributes:
        blocks: those whose precision is chosen, in running order.
        fingerprint: of the model before its weights were packed; "" where no calibration can be given.
        layers: of the linear layers in blocks, by path: block, shape, and why the weight is not packed ("" if it is).
        outside: shapes of the linear layers outside the blocks that run uncompiled, by layer.
        other_weight_bytes: of everything that is not packed.
        mapped: attention modules that show a block map, each with its block's path.
        packing: how weights were packed, see `tadp.files.manifest`.
        dynamic: for which shapes blocks are compiled, see `tadp.compile`.
    """

    blocks: tuple[str, ...]
    fingerprint: str = ""
    layers: Mapping[str, tuple[str, tuple[int, ...], str]] = field(default_factory=dict)
    outside: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    other_weight_bytes: int = 0
    mapped: tuple[tuple[str, HasBlockMap], ...] = ()
    packing: Mapping[str, object] = field(default_factory=dict)
    dynamic: bool | None = None


class Controller:
    """Follows the generations of one compiled module and orders what runs; reached as ``compiled.tadp``."""

    def __init__(self, policy: str | Policy, pool: WeightPool, variants: PieceCompiler[Any], facts: ModelFacts) -> None:
        self._course = Course()
        self._policy = parse(policy)
        self._pool = pool
        self._variants = variants
        self._facts = facts
        self._calibration: Calibration | None = None
        self._companions: tuple[Controller, ...] = ()
        self._turns: tuple[Controller, ...] = (self,)
        self._dispatchers: list[Dispatcher[Any]] = []
        self._history = History()
        self._captures = Captures()
        self._runs = 0  # the last generation that this model ran in
        self._masters_fit = True
        self._planner = Planner()
        self._shadow_rotation = ShadowRotation(price_at_16())
        self._residuals = ResidualStore(lambda: available_bytes(self._pool.device) // RESIDUAL_SHARE)
        self._guidance = GuidanceStore()
        self._order = self._order_of(self._policy, None)

    @property
    def clock(self) -> Clock:
        """Tells which generation, step and guidance branch a forward belongs to."""
        return self._course.clock

    @property
    def _generation(self) -> Generation:
        return self._course.generation

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._policy

    @property
    def plan(self) -> Plan:
        """What every block runs at, and when it may be reused instead."""
        return self._order.plan

    @property
    def residuals(self) -> ResidualStore:
        """What is kept of blocks that may be reused; every call of a block goes through it."""
        return self._residuals

    @property
    def score(self) -> Score | None:
        """Complexity of the content of the current generation; None until it is known."""
        return self._generation.score

    @property
    def history(self) -> tuple[StepRecord, ...]:
        """A record per forward, oldest first; `tadp.runtime.record` says how far it goes back."""
        return self._history.records()

    @property
    def blocks(self) -> tuple[str, ...]:
        """The blocks whose precision is chosen, in running order."""
        return self._facts.blocks

    @property
    def facts(self) -> ModelFacts:
        """What is known of the model."""
        return self._facts

    @property
    def pieces(self) -> tuple[Any, ...]:
        """What was captured so far, cut into pieces: what a recipe makes of them is for `tadp.passes` to say."""
        return tuple(piece for dispatcher in self._dispatchers for piece in dispatcher.partition.pieces)

    @property
    def dynamic(self) -> bool | None:
        """For which shapes blocks are compiled, as `tadp.compile` was told."""
        return self._facts.dynamic

    @property
    def calibration(self) -> Calibration | None:
        """What was measured of this model; None where nothing was given."""
        return self._calibration

    def use(self, policy: str | Policy) -> None:
        """Follow another policy from the next forward on, also in the middle of a generation.

        Nothing that was compiled before is compiled again; recipes that no policy has asked for yet are compiled here.

        Raises:
            ValueError: for an unknown policy, and for levels that need a calibration; the one in force stays.
        """
        asked = parse(policy)
        chosen = asked if self._calibration is None else asked.calibrated(self._calibration)
        check_levels(chosen.recipes(), self._calibration)
        self._prepare(chosen, self._dispatchers)
        self._order = self._order_of(chosen, None)
        self._policy = chosen
        for companion in self._companions:
            companion.use(asked)

    def learn(self, calibration: Calibration) -> None:
        """Let all policies from now on use what was measured of this model; the one in force is given anew by `use`.

        Raises:
            ValueError: for a calibration of another model or of other versions.
        """
        calibration.check(self._facts.fingerprint)
        self._calibration = calibration
        self._pool.read_channels_at(calibration.channel_widths)
        for dispatcher in self._dispatchers:
            dispatcher.forget_weights()

    def levels_of(self, block: str, role: Role | None) -> tuple[Level, ...]:
        """The levels that a block's layers of a role run at in the forward that was ordered last; none if it is reused.

        A layer without a role runs at 16 bits.
        """
        if self._order.foretold or block in self._order.reused:
            return ()
        recipes = [self._order.variant_of(block)[0]]
        if block in self._order.shadows:
            recipes.append(self._order.shadows[block])
        return tuple(L16 if role is None else recipe[role] for recipe in recipes)

    def complete_planes(self) -> None:
        """Read the planes that weights were loaded without."""
        self._pool.complete_planes()

    def identify(self, fingerprint: str) -> None:
        """Know the model by another fingerprint, as its weights have changed; "" for one that nobody knows."""
        self._facts = replace(self._facts, fingerprint=fingerprint)

    def lead(self, companions: Iterable["Controller"]) -> None:
        """Pass changes of policy on to the controllers of a pipeline's other transformers."""
        self._companions = tuple(companions)

    def share_generations(self, others: Iterable["Controller"]) -> None:
        """Let other transformers go on with the generations that this one begins, and this one with theirs."""
        turns = tuple(dict.fromkeys((self, *others)))
        for controller in turns:
            controller._course, controller._turns = self._course, turns

    def relocate(self) -> None:
        """Forget where weights are: they were moved to another device and are bound anew at the next forward."""
        for dispatcher in self._dispatchers:
            dispatcher.forget_weights()
        self._pool.keep_masters(frozenset())
        self._residuals.clear()

    def begin(
        self,
        prompt: str | Sequence[str] | None = None,
        image: object = None,
        num_steps: int | None = None,
        guidance_scale: float | None = None,
    ) -> None:
        """Announce a generation, where no pipeline does.

        Args:
            prompt: what it is to show: one text or, for a batch, several, of which the most complex counts.
            image: first frame of an image-to-video generation, in any form that `tadp.complexity.image.score` takes; of
                several, in a list or as a batch, the mean counts.
            num_steps: how many steps it will take; tells how far a model is that takes no timestep.
            guidance_scale: of classifier-free guidance; tells how much an error of its branches counts.

        Raises:
            TypeError, ValueError: for an image that cannot be scored; the generation before is still the current one.
        """
        picture = of_images(image)
        self.clock.begin()
        prompts = () if prompt is None else (prompt,) if isinstance(prompt, str) else tuple(prompt)
        self._course.generation = Generation(
            self.clock.generation, prompts, picture, num_steps=num_steps, guidance_scale=guidance_scale
        )

    def layers(self) -> tuple[ExplainedLayer, ...]:
        """Every layer whose level may be chosen, with its level, its kernel, and the reason for every fallback."""
        rows = [uncompiled("outside", *layer, "outside the blocks") for layer in self._facts.outside.items()]
        # A layer that was captured at several shapes stands once, as it ran last.
        captured: dict[tuple[str, Role | None], ExplainedLayer] = {}
        for dispatcher in sorted(self._dispatchers, key=lambda one: not one.ran_last):
            for row in dispatcher.layers(self.plan):
                refused = self._residuals.refused.get(row.piece) if row.reuse else None
                shown = row if refused is None else replace(row, reuse=f"never: {refused}")
                captured.setdefault((row.layer, row.role), shown)
        rows += captured.values()
        if self._dispatchers:
            seen, device = {layer for layer, _ in captured}, self._pool.device
            for layer, (block, shape, reason) in self._facts.layers.items():
                if layer not in seen:
                    packed = not reason and device is not None and self._pool.runs_packed_uncaptured(device)
                    why = reason or self._pool.why_uncaptured(layer)
                    rows.append(uncompiled(block, layer, shape, why, L8 if packed else L16))
        order = {block: index for index, block in enumerate(self.blocks)}
        return tuple(sorted(rows, key=lambda row: order.get(row.piece, len(order))))

    def warn_of_what_is_missing(self) -> None:
        """Say once, after a forward, that plans have no effect on blocks, or none on attention, where that is so."""
        if self._captures.are_checked(self.plan):
            return
        missing = self._captures.check(self.plan, len(self.blocks), self.layers())
        if missing is not None:
            warnings.warn(missing, PrecisionFallbackWarning, stacklevel=3)

    def explain(self) -> Explanation:
        """A table of `layers`."""
        return Explanation(self.layers())

    def weight_bytes(self) -> int:
        """Bytes of the module's weights in memory now: bit planes, whatever is not packed, and masters mapped in."""
        return self._pool.plane_bytes + self._pool.master_bytes + self._facts.other_weight_bytes

    @property
    def kept_bytes(self) -> int:
        """Bytes of residuals for reuse, the most that this generation has kept at a time."""
        return self._residuals.peak

    def attach(self, partition: RunnablePartition[PieceT]) -> Dispatcher[PieceT]:
        """Take charge of a newly captured graph; the dispatcher runs it."""
        dispatcher = Dispatcher(partition, self._pool, self._variants, self._order)
        self._dispatchers.append(dispatcher)
        self._prepare(self._policy, [dispatcher])
        return dispatcher

    def step(
        self, timestep: float | None, forward: Callable[[], Result], inputs: Iterable[tuple[str, torch.Tensor]] = ()
    ) -> Result:
        """Run one forward of the model as the policy says, and record what happened.

        Raises:
            ValueError: where `inputs`, looked at in the first step of a generation, hold NaN or infinity.
        """
        tick = self._tick(timestep, inputs)
        order = self._give_order(tick)
        started = time.perf_counter()
        noise = self._generation.noise
        if len(order.reused) < len(order.plan) and not order.probing:
            foretold = self._guidance.foretell(order.plan.guidance, tick, noise, self._generation.gap)
            if foretold is not None:
                self._order = replace(order, foretold=True)
                self._record(tick, False, None, time.perf_counter() - started)
                return cast("Result", foretold)
        try:
            result = forward()
        except ReuseFailed:  # warned of where it was raised
            self._residuals.clear()
            self._give_order(tick)
            result = forward()
        signals = self._take_signals(tick, prediction_of(result)) if order.probing else None
        if signals is not None and self._generation.fallback:
            self._residuals.clear()
            self._give_order(tick)
            result = forward()
        self._residuals.finish()
        if order.plan.guidance is not None:
            self._guidance.take(tick, noise, result, self._generation.guidance_scale, ran=not self._order.reused)
        seconds = time.perf_counter() - started
        self._record(tick, order.probing, signals, seconds)
        if tick.step == self._generation.num_steps:
            self._residuals.drop(tick.branch)
            self._guidance.clear()
        return result

    def _tick(self, timestep: float | None, inputs: Iterable[tuple[str, torch.Tensor]]) -> Tick:
        """Count a forward, and begin a generation where it is the first one."""
        tick = self.clock.tick(timestep)
        if tick.step == 1:
            _check_finite(inputs)
        if tick.generation != self._generation.number:
            self._course.generation = Generation(tick.generation)
        if not self._generation.started:
            give_back_freed_memory()
        if tick.generation != self._runs:
            self._runs = tick.generation
            self._masters_fit = self._pool.masters_fit(free_bytes(self._pool.device))
            self._residuals.restart()
            self._guidance.clear()
            for other in self._turns:
                if other is not self:
                    other.residuals.clear()
        self._generation.follow(tick)
        return tick

    def _give_order(self, tick: Tick) -> Order:
        """Write the order for a forward and hand it to all dispatchers."""
        order = self._order_of(self._policy, tick.step)
        reused = self._residuals.decide(order.plan, tick, self._generation.noise, self._generation.gap, order.probing)
        self._order = replace(order, reused=reused) if reused else order
        for dispatcher in self._dispatchers:
            dispatcher.follow(self._order)
        return self._order

    def _order_of(self, policy: Policy, step: int | None) -> Order:
        """The order that a policy gives for a step. None: for the next one, which runs without shadows until then."""
        generation = self._generation
        if generation.fallback:
            return Order(uniform_plan(self.blocks, Recipe(L16), keep_ends=False))
        probing = generation.probes(step, policy)
        if policy.probe_steps and not probing and generation.score is None:
            generation.score = generation.judge(self.blocks, policy)
        memory = free_bytes(self._pool.device) if policy.follows_steps else None
        seen = generation.seen(self.blocks, policy, step, memory)
        fast_attention = attention_is_faster(self._pool.device)
        plan = self._planner.plan(policy, replace(seen, masters_fit=self._masters_fit, fast_attention=fast_attention))
        if not probing or step is None:
            return Order(plan, probing)
        tried = worth_trying(policy.recipes(), self._pool.device)
        return Order(plan, probing, self._shadow_rotation.choose(plan, tried, policy.shadow_budget))

    def _take_signals(self, tick: Tick, prediction: torch.Tensor | None) -> Signals:
        """Take what the dispatchers measured; numbers that are none put the rest of the generation at 16 bits."""
        blocks = tuple(block for dispatcher in self._dispatchers for block in dispatcher.take_measured())
        signals = self._generation.take(read_block_maps(Signals(blocks), self._facts.mapped), tick, prediction)
        if broken := signals.not_finite():
            self._generation.fallback = True
            warnings.warn(
                f"NaN or infinity in {broken[0]} at step {tick.step}: the step is repeated at 16 bits, and the rest of "
                "the generation stays there",
                PrecisionFallbackWarning,
                stacklevel=3,
            )
        return signals

    def _record(self, tick: Tick, probed: bool, signals: Signals | None, seconds: float) -> None:
        """Add a forward that has just ended to the history."""
        executed = self._order.executed
        for dispatcher in self._dispatchers:
            executed = dispatcher.ran(executed)
        self._history.append(
            StepRecord(
                generation=tick.generation,
                step=tick.step,
                phase="probe" if probed else "run",
                branch=tick.branch,
                timestep=tick.timestep,
                signals=signals,
                score=None if self.score is None else self.score.total,
                plan=executed,
                seconds=seconds,
            )
        )

    def _prepare(self, policy: Policy, dispatchers: Iterable[Dispatcher[Any]]) -> None:
        """Let every variant be compiled that a policy may ask for."""
        pieces = [piece for dispatcher in dispatchers for piece in dispatcher.partition.pieces]
        first = policy.plan(Seen(self.blocks, masters_fit=self._masters_fit)) if policy.probe_steps else Plan()
        probed = tuple(dict.fromkeys(recipe.running for _, recipe in first))
        recipes = tuple(dict.fromkeys(recipe.running for recipe in policy.recipes()))
        self._variants.prepare(pieces, recipes, probed)


def _check_finite(inputs: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Refuse inputs that cannot give anything.

    Raises:
        ValueError: where one holds NaN or infinity.
    """
    for name, tensor in inputs:
        if not tensor.isfinite().all():
            raise ValueError(f"input {name!r} of the model holds NaN or infinity")

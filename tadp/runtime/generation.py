"""What is known of a generation while it is under way: its content, its noise, what its probe measured."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch

from tadp.complexity.content import of_prompts
from tadp.complexity.score import Score, default_weights, judge
from tadp.policy import Policy, Seen
from tadp.policy.plans import scored
from tadp.runtime.clock import CONDITIONAL, UNCONDITIONAL, Clock, Tick
from tadp.runtime.signals import At, Signals, columns_as_values, features, signals_at, with_deltas


@dataclass
class Generation:
    """Grows with every forward.

    Attributes:
        number: counted from 1.
        prompts: what it is to show.
        image: complexity of its first frame; None where there is none.
        num_steps: how many steps it takes, where that was told.
        guidance_scale: of classifier-free guidance, where that was told.
        probed_steps: steps that were measured.
        signals: what they measured, a value for each forward.
        noise: what is left of it, as a share of the first step's.
        gap: how much of it went since the step before.
        score: complexity of the content, once it is known.
        fallback: whether NaN or infinity was met, so that the rest runs at 16 bits.
        started: whether a forward of it has begun.
    """

    number: int
    prompts: tuple[str, ...] = ()
    image: float | None = None
    num_steps: int | None = None
    guidance_scale: float | None = None
    probed_steps: set[int] = field(default_factory=set)
    signals: list[Signals] = field(default_factory=list)
    noise: float = 1.0
    gap: float = 0.0
    score: Score | None = None
    fallback: bool = False
    started: bool = field(default=False, init=False)
    _first_timestep: float = field(default=0.0, init=False)
    _latest: dict[str, tuple[int, Signals]] = field(default_factory=dict, init=False)  # by branch, with their step
    _prediction: tuple[int, str, torch.Tensor] | None = field(
        default=None, init=False
    )  # of the latest measured forward

    def follow(self, tick: Tick) -> None:
        """Begin a forward: note how much noise is left, from the timestep or else from the number of steps."""
        self.started = True
        before = self.noise
        if tick.timestep is not None:
            self._first_timestep = max(self._first_timestep, tick.timestep)
            self.noise = tick.timestep / self._first_timestep if self._first_timestep > 0 else 1.0
        elif self.num_steps:
            self.noise = 1 - (tick.step - 1) / self.num_steps
        if self.noise != before:  # all branches of a step have the same
            self.gap = abs(before - self.noise)

    def stage(self, bounds: Iterable[float]) -> int:
        """How many of the stages that end at these noise levels are over."""
        return sum(self.noise < bound for bound in bounds)

    def probes(self, step: int | None, policy: Policy) -> bool:
        """Whether a step is measured, in all its branches, as the policy's first ones are. None: the next step."""
        return len(self.probed_steps) < policy.probe_steps_of(self.num_steps) or step in self.probed_steps

    def seen(self, blocks: tuple[str, ...], policy: Policy, step: int | None, memory: int | None) -> Seen:
        """What a policy is shown of a generation before a step; None: before the next one.

        Only policies that follow steps are told step and memory, which change all the time.
        """
        score = None if self.score is None or self.probes(step, policy) else self.score.total
        stage = self.stage(policy.stages)
        seen = Seen(blocks, score, tuple(self.signals), stage, steps=self.num_steps)
        return replace(seen, step=step, memory=memory) if policy.follows_steps else seen

    def take(self, measured: Signals, tick: Tick, prediction: torch.Tensor | None) -> Signals:
        """Add what a forward measured.

        Args:
            measured: of the blocks.
            tick: which forward it was.
            prediction: what it returned; None where that is unknown.

        Returns:
            The same with its changes since the branch's last step and, where it completes a pair of guidance branches,
            what the two predictions tell together.
        """
        signals = measured
        step, before = self._latest.get(tick.branch, (0, Signals(())))
        if step == tick.step - 1:
            signals = with_deltas(signals, before)
        signals = replace(signals, guidance=self._guidance(tick, prediction))
        self._latest[tick.branch] = tick.step, signals
        self.probed_steps.add(tick.step)
        self.signals.append(signals)
        return signals

    def judge(self, blocks: tuple[str, ...], policy: Policy) -> Score | None:
        """The score by a policy's weights, from whatever is known; None where nothing that weighs is."""
        scoring = policy.scoring
        known = features(self.signals, scored(blocks)) | of_prompts(self.prompts, scoring.text_scorer)
        if self.image is not None:
            known["image.total"] = self.image
        return judge(known, scoring.ranges, scoring.weights or default_weights(self.image))

    def _guidance(self, tick: Tick, prediction: torch.Tensor | None) -> dict[str, tuple[float, ...]]:
        """The signals of the pair of guidance branches that this forward completes, if it completes one."""
        if prediction is None or tick.branch not in (CONDITIONAL, UNCONDITIONAL):
            return {}
        step, branch, before = self._prediction or (0, "", None)
        self._prediction = tick.step, tick.branch, prediction.detach().clone()  # buffers may be used again
        if before is None or step != tick.step or branch == tick.branch or before.shape != prediction.shape:
            return {}
        pair = {branch: before, tick.branch: prediction}
        self._prediction = None
        found: dict[str, tuple[float, ...]] = {}
        for signal in signals_at(At.GUIDANCE):
            measured = signal.measure(pair[CONDITIONAL], pair[UNCONDITIONAL])
            found |= columns_as_values(signal.name, measured)
        return found


@dataclass
class Course:
    """The clock and the generation under way. Transformers of a pipeline that take turns in one generation share it.

    Such a pipeline begins with one transformer at high noise and goes on with another at low noise: the step count, the
    noise that is left, the probe and the score are those of the generation, whichever transformer runs.
    """

    clock: Clock = field(default_factory=Clock)
    generation: Generation = field(default_factory=lambda: Generation(0))

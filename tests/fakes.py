"""A pipeline and a controller that behave like compiled ones and take no time."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch

from tadp.complexity.score import Score
from tadp.planning.calibration import Calibration
from tadp.policy import Policy, Seen, Static, parse
from tadp.precision import L16, Plan, Role
from tadp.runtime.explanation import ExplainedLayer, Explanation
from tadp.runtime.record import StepRecord
from tadp.runtime.signals import BlockSignals, Signals

BLOCKS = ("blocks.0", "blocks.1", "blocks.2")


@runtime_checkable
class AskedController(Protocol):
    """What commands, reports and calibration ask of the controller of a compiled model; the real one has it too."""

    @property
    def blocks(self) -> tuple[str, ...]: ...
    @property
    def pieces(self) -> tuple[Any, ...]: ...
    @property
    def clock(self) -> Any: ...
    @property
    def history(self) -> Sequence[StepRecord]: ...
    @property
    def calibration(self) -> Calibration | None: ...
    @property
    def policy(self) -> Policy: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def score(self) -> Score | None: ...
    def use(self, policy: Policy | str) -> None: ...
    def weight_bytes(self) -> int: ...
    @property
    def kept_bytes(self) -> int: ...
    def layers(self) -> tuple[ExplainedLayer, ...]: ...
    def explain(self) -> Explanation: ...


def block_signals(piece: str, value: float) -> BlockSignals:
    shadows = {("shadow_error:6", ""): (0.04 * value,), ("shadow_error:16", ""): (0.03 * value,)}
    return BlockSignals(
        piece,
        {
            ("entropy", ""): (value,),
            ("kurtosis", "ffn.up"): (3.0 + value,),
            ("kurtosis", "ffn.down"): (float("nan"),),
            ("skewness", "ffn.up"): (0.1,),
            ("relative_change", ""): (0.5 * value,),
            ("quantization_error:8", "ffn.up"): (0.01 * value,),
            ("quantization_error:8", "ffn.down"): (0.02 * value,),
            ("quantization_error:4", "ffn.up"): (0.2,),
            ("quantization_error:4", "ffn.down"): (0.3,),
            **(shadows if piece == "blocks.1" else {}),
        },
    )


def step_record(generation: int, step: int, signals: Signals | None, plan: Plan) -> StepRecord:
    """What is kept of a forward that takes no time."""
    phase = "run" if signals is None else "probe"
    return StepRecord(generation, step, phase, "cond", None, signals, None, plan, seconds=0.0)


@dataclass
class FakeController:
    """Follows a policy by the noise that is left, as the real one does.

    Attributes:
        blocks: names of the model's blocks.
        policy: the one in use.
        roles: what each block has a layer of.
        history: a record for each forward.
        clock: counts generations.
        used: names of all policies that were used.
        noise: share of the first step's noise that is left.
        kept_bytes: of residuals.
        calibration: that was found.
        pieces: that were captured.
    """

    blocks: tuple[str, ...] = BLOCKS
    policy: Policy = field(default_factory=lambda: Static(L16))
    roles: tuple[Role, ...] = (Role.FFN_UP,)
    history: list[StepRecord] = field(default_factory=list)
    clock: Any = field(default_factory=lambda: SimpleNamespace(generation=0))
    used: list[str] = field(default_factory=list)
    noise: float = 1.0
    kept_bytes: int = 0
    calibration: Calibration | None = None
    pieces: ClassVar[tuple[Any, ...]] = ()

    def use(self, policy: Policy | str) -> None:
        self.policy = parse(policy)
        self.used.append(str(self.policy).partition(" (with")[0])  # the embedded model has ranges of its own

    @property
    def plan(self) -> Plan:
        return self.policy.plan(Seen(self.blocks, stage=sum(self.noise < bound for bound in self.policy.stages)))

    @property
    def score(self) -> Score | None:
        return Score(total=0.4, text=0.5, feature=0.25) if self.policy.probe_steps else None

    def weight_bytes(self) -> int:
        return 1000 + 300 * sum(recipe.has(L16) for _, recipe in self.plan)

    def layers(self) -> tuple[ExplainedLayer, ...]:
        plan = dict(self.plan)
        return tuple(
            ExplainedLayer(
                piece=piece,
                structure="block" if piece in plan else piece,
                role=role,
                layer=f"{piece}.{role}",
                level=plan[piece][role] if piece in plan else L16,
                kernel="linear",
                bytes=10,
                tokens=3,
                shape=(8, 64),
                nonlinearity="gelu_tanh",
                biased=True,
                reason="" if piece in plan else "outside blocks",
            )
            for piece in ("before", *self.blocks, "after")
            for role in (self.roles if piece in plan else self.roles[:1])
        )

    def explain(self) -> Explanation:
        return Explanation(self.layers())

    def run(self, steps: int, noise: float = 1000.0) -> None:
        """Record a generation of two branches a step, with signals in the first two steps."""
        self.clock.generation += 1
        for step in range(1, steps + 1):
            for branch in ("cond", "uncond"):
                signals = Signals(tuple(block_signals(block, 0.1 * i + step) for i, block in enumerate(self.blocks)))
                self.history.append(
                    StepRecord(
                        generation=self.clock.generation,
                        step=step,
                        phase="probe" if step <= 2 else "run",
                        branch=branch,
                        timestep=noise - step,
                        signals=signals if step <= 2 else None,
                        score=0.4 if step > 2 else None,
                        plan=self.plan,
                        seconds=0.01 * step,
                    )
                )


class FakeTokenizer:
    def __call__(self, prompt: str, **_: Any) -> Any:
        return SimpleNamespace(input_ids=prompt.split())


class FakePipeline:
    """Draws noise from the generator it is given; a narrower level adds a little error, as a real one would."""

    def __init__(self) -> None:
        self.transformer = SimpleNamespace()
        self.tokenizer = FakeTokenizer()
        self.device = torch.device("cpu")
        self.calls: list[dict[str, Any]] = []
        self.fail_on: str | None = None

    @property
    def components(self) -> dict[str, Any]:
        return {"transformer": self.transformer, "tokenizer": self.tokenizer}

    def set_progress_bar_config(self, **_: Any) -> None:
        pass

    def __call__(
        self,
        prompt: str = "",
        height: int = 16,
        width: int = 16,
        num_frames: int = 5,
        num_inference_steps: int = 4,
        guidance_scale: float = 5.0,
        generator: torch.Generator | None = None,
        output_type: str = "np",
        max_sequence_length: int = 512,
    ) -> Any:
        self.calls.append(
            {"prompt": prompt, "steps": num_inference_steps, "height": height, "output_type": output_type}
        )
        if self.fail_on is not None and self.fail_on in prompt:
            raise KeyboardInterrupt
        if height % 16:
            raise ValueError(f"`height` and `width` have to be divisible by 16 but are {height} and {width}.")
        controller: FakeController = self.transformer.tadp
        controller.run(num_inference_steps)
        clip = torch.rand(num_frames, height, width, 3, generator=generator)
        error = 0.001 * fmean(16 - recipe.default.weight for _, recipe in controller.plan)
        return SimpleNamespace(frames=np.clip(clip.numpy()[None] + error, 0, 1))

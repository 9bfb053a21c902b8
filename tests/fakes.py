"""A pipeline and a controller that behave like compiled ones and take no time."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tadp.complexity.score import Score
from tadp.policy import Policy, parse
from tadp.precision import L4, L6, L8, L16, Plan, Recipe, Role
from tadp.runtime.explanation import ExplainedLayer, Explanation
from tadp.runtime.record import StepRecord
from tadp.runtime.signals import BlockSignals, Signals

PIECES = ("before", "blocks.0", "blocks.1", "blocks.2", "after")
POLICIES = {
    "complexity": Recipe(L8, ((Role.FFN_DOWN, L16),)),
    "static:16": Recipe(L16),
    "static:8": Recipe(L8),
    "static:6": Recipe(L6),
    "static:4": Recipe(L4),
}


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


@dataclass
class FakeController:
    """Records a generation of two branches a step, with signals in the first two steps."""

    policy: str = "complexity"
    history: list[StepRecord] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    generation: int = 0

    def use(self, policy: Policy | str) -> None:
        self.policy = str(parse(policy)).partition(" (with")[0]  # the embedded model has ranges of its own
        self.used.append(self.policy)

    @property
    def plan(self) -> Plan:
        middle = POLICIES[self.policy]
        return Plan.of({piece: middle if piece.startswith("blocks") else Recipe(L16) for piece in PIECES})

    @property
    def score(self) -> Score | None:
        return Score(total=0.4, text=0.5, feature=0.25) if self.policy == "complexity" else None

    def weight_bytes(self) -> int:
        return 1000 * POLICIES[self.policy].default.weight

    def layers(self) -> tuple[ExplainedLayer, ...]:
        return tuple(
            ExplainedLayer(
                piece=piece,
                structure="block" if piece.startswith("blocks") else piece,
                role=Role.FFN_UP,
                layer=f"{piece}.ffn.0",
                level=L8 if piece.startswith("blocks") else L16,
                kernel="linear",
                bytes=10,
                tokens=3,
                shape=(8, 64),
                nonlinearity="gelu_tanh",
                biased=True,
                reason="" if piece.startswith("blocks") else "outside blocks",
            )
            for piece in PIECES
        )

    def explain(self) -> Explanation:
        return Explanation(self.layers())

    def run(self, steps: int, noise: float = 1000.0) -> None:
        self.generation += 1
        for step in range(1, steps + 1):
            for branch in ("cond", "uncond"):
                signals = Signals(tuple(block_signals(f"blocks.{i}", 0.1 * i + step) for i in range(3)))
                self.history.append(
                    StepRecord(
                        generation=self.generation,
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
        error = 0.001 * (16 - POLICIES[controller.policy].default.weight)
        return SimpleNamespace(frames=np.clip(clip.numpy()[None] + error, 0, 1))

"""Clips of a compiled pipeline from the same noise at several precisions, and what each is off by."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tadp.calibration.samples import Outcome, SampleFile
from tadp.pipelines import first_clip, takes
from tadp.policy import Policy, parse
from tadp.policy.plans import scored
from tadp.precision import L0, Recipe
from tadp.quality.fidelity import MS_SSIM_SIDE, SSIM_WINDOW, ms_ssim, ssim
from tadp.quality.perceptual import LPIPS_SIDE, lpips, missing
from tadp.quality.temporal import temporal_error
from tadp.runtime.compiled import Compiled, latest_records
from tadp.runtime.signals import features
from tadp.writing import replacing

REFERENCE: Policy = parse("static:16")
"""What clips are compared with, unless a measurer is told otherwise."""

Align = Callable[[torch.Tensor, str], float]


@dataclass(frozen=True)
class _Made:
    """A clip, the seconds it took, and the most bytes of weights in memory on the way."""

    clip: torch.Tensor
    seconds: float
    weight_bytes: int | None


@dataclass
class ClipMeasurer:
    """Measures what is missing in a file, clip by clip.

    Attributes:
        pipeline: a compiled diffusers pipeline, called with a prompt.
        arguments: of its call, but for prompt and generator.
        file: where measurements are kept.
        references: a directory for clips at 16 bits, which later measurements of the same prompt and seed compare with.
        align: how much of a prompt a clip shows, in [0, 1].
        reference: the policy of the clips that others are compared with.
    """

    pipeline: Compiled
    arguments: Mapping[str, Any]
    file: SampleFile
    references: Path
    align: Align | None = None
    reference: Policy = REFERENCE
    _latest: tuple[tuple[str, int], torch.Tensor] | None = field(default=None, init=False)

    def missing(self, prompts: Iterable[tuple[str, int]], policies: Iterable[Policy]) -> list[tuple[str, int, Policy]]:
        """Prompt, seed and policy of every clip that the file does not know, prompt by prompt."""
        wanted = tuple(policies)
        return [
            (prompt, seed, policy)
            for prompt, seed in prompts
            for policy in wanted
            if policy.key not in self.file.sample(prompt, seed).outcomes
        ]

    def measure(self, prompt: str, seed: int, policy: Policy) -> Outcome:
        """Generate a clip, compare it with the one at 16 bits, and keep the outcome.

        What a policy's own probe measures is kept as the features of the sample, unless there are some.
        """
        if policy.key == self.reference.key:
            self._make_reference(prompt, seed)
        else:
            reference = self._reference(prompt, seed)
            made = self._generate(prompt, seed, policy)
            self._keep_features(prompt, seed)
            self._keep_outcome(prompt, seed, policy.key, made, reference)
        return self.file.sample(prompt, seed).outcomes[policy.key]

    def _reference(self, prompt: str, seed: int) -> torch.Tensor:
        """The clip at 16 bits, from its file where there is one."""
        if self._latest is None or self._latest[0] != (prompt, seed):
            path = self._path(prompt, seed)
            clip = load_file(str(path))["clip"] if path.exists() else self._make_reference(prompt, seed)
            self._latest = (prompt, seed), clip
        return self._latest[1]

    def _make_reference(self, prompt: str, seed: int) -> torch.Tensor:
        made = self._generate(prompt, seed, self.reference)
        self._keep_features(prompt, seed)
        with replacing(self._path(prompt, seed)) as temporary:
            save_file({"clip": made.clip}, str(temporary))
        self._keep_outcome(prompt, seed, self.reference.key, made, made.clip)
        return made.clip

    def _path(self, prompt: str, seed: int) -> Path:
        return self.references / f"{hashlib.sha256(f'{seed} {prompt}'.encode()).hexdigest()[:24]}.safetensors"

    def _keep_outcome(self, prompt: str, seed: int, policy: str, made: _Made, reference: torch.Tensor) -> None:
        clip, side = made.clip, min(made.clip.shape[1:3])
        outcome = Outcome(
            mse=(clip - reference).square().mean().item(),
            ssim=ssim(clip, reference) if side >= SSIM_WINDOW else None,
            temporal_error=temporal_error(clip, reference) if len(clip) > 1 else None,
            seconds=made.seconds,
            alignment=self.align(clip, prompt) if self.align else None,
            recipes=self._recipes(),
            weight_bytes=made.weight_bytes,
            ms_ssim=ms_ssim(clip, reference) if side >= MS_SSIM_SIDE else None,
            lpips=lpips(clip, reference) if side >= LPIPS_SIDE and not missing() else None,
            reused=self._reused(),
            kept_bytes=self.pipeline.tadp.kept_bytes,
        )
        self.file.add_outcome(prompt, seed, policy, outcome)

    def _generate(self, prompt: str, seed: int, policy: Policy) -> _Made:
        controller, most = self.pipeline.tadp, 0

        def note(_: Any, step: int, timestep: object, tensors: dict[str, Any]) -> dict[str, Any]:
            nonlocal most
            most = max(most, controller.weight_bytes())
            return {}

        controller.use(policy)
        arguments = {**self.arguments, "output_type": "np"}
        if takes(self.pipeline, "callback_on_step_end"):
            arguments["callback_on_step_end"] = note
        started = time.perf_counter()
        result = self.pipeline(prompt, generator=torch.Generator().manual_seed(seed), **arguments)
        seconds = time.perf_counter() - started
        return _Made(torch.from_numpy(first_clip(result)).contiguous(), seconds, most or None)

    def _recipes(self) -> dict[str, int]:
        return dict(Counter(str(recipe) for record in latest_records(self.pipeline.tadp) for _, recipe in record.plan))

    def _reused(self) -> tuple[float, ...]:
        left_out: dict[int, list[float]] = {}
        for record in latest_records(self.pipeline.tadp):
            left_out.setdefault(record.step, []).extend(float(recipe == Recipe(L0)) for _, recipe in record.plan)
        return tuple(fmean(of_step) for _, of_step in sorted(left_out.items()))

    def _keep_features(self, prompt: str, seed: int) -> None:
        probed = [
            (record.signals, record.plan) for record in latest_records(self.pipeline.tadp) if record.signals is not None
        ]
        blocks = tuple(dict.fromkeys(block for _, plan in probed for block, _ in plan))
        found = features([signals for signals, _ in probed], scored(blocks))
        if found and not self.file.sample(prompt, seed).features:
            self.file.add_features(prompt, seed, found)

"""Clips of a compiled pipeline from the same noise at several precisions, and what each is off by."""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tadp.calibration.samples import Damage, SampleFile
from tadp.policy import Policy, parse
from tadp.quality.fidelity import ssim
from tadp.quality.temporal import temporal_error
from tadp.runtime.signals import features

REFERENCE = "static:16"
_SSIM_WINDOW = 11  # pixels: smaller frames have no structural similarity

Align = Callable[[torch.Tensor, str], float]


@dataclass
class ClipMeasurer:
    """Measures what is missing in a file, clip by clip.

    Attributes:
        pipeline: a compiled diffusers pipeline, called with a prompt.
        arguments: of its call, but for prompt and generator.
        file: where measurements are kept.
        references: a directory for clips at 16 bits, which later measurements of the same prompt and seed compare with.
        align: how much of a prompt a clip shows, in [0, 1].
    """

    pipeline: Any
    arguments: Mapping[str, Any]
    file: SampleFile
    references: Path
    align: Align | None = None
    _latest: tuple[tuple[str, int], torch.Tensor] | None = field(default=None, init=False)

    def missing(self, prompts: Iterable[tuple[str, int]], policies: Iterable[Policy]) -> list[tuple[str, int, Policy]]:
        """Prompt, seed and policy of every clip that the file does not know, prompt by prompt."""
        wanted = tuple(policies)
        return [
            (prompt, seed, policy)
            for prompt, seed in prompts
            for policy in wanted
            if str(policy) not in self.file.sample(prompt, seed).damage
        ]

    def measure(self, prompt: str, seed: int, policy: Policy) -> Damage:
        """Generate a clip, compare it with the one at 16 bits, and keep the damage.

        What a policy's own probe measures is kept as the features of the sample, unless there are some.
        """
        reference = self._reference(prompt, seed)
        if str(policy) != REFERENCE:
            ours, seconds = self._generate(prompt, seed, policy)
            self._keep_features(prompt, seed)
            self._keep_damage(prompt, seed, str(policy), ours, reference, seconds)
        return self.file.sample(prompt, seed).damage[str(policy)]

    def _reference(self, prompt: str, seed: int) -> torch.Tensor:
        """The clip at 16 bits, from its file where there is one."""
        if self._latest is None or self._latest[0] != (prompt, seed):
            name = hashlib.sha256(f"{seed} {prompt}".encode()).hexdigest()[:24]
            path = self.references / f"{name}.safetensors"
            if path.exists() and REFERENCE in self.file.sample(prompt, seed).damage:
                clip = load_file(str(path))["clip"]
            else:
                clip, seconds = self._generate(prompt, seed, parse(REFERENCE))
                self.references.mkdir(parents=True, exist_ok=True)
                partial = path.with_suffix(".partial")
                save_file({"clip": clip}, str(partial))
                partial.replace(path)
                self._keep_damage(prompt, seed, REFERENCE, clip, clip, seconds)
            self._latest = (prompt, seed), clip
        return self._latest[1]

    def _keep_damage(
        self, prompt: str, seed: int, policy: str, clip: torch.Tensor, reference: torch.Tensor, seconds: float
    ) -> None:
        damage = Damage(
            mse=(clip - reference).square().mean().item(),
            ssim=ssim(clip, reference) if min(clip.shape[1:3]) >= _SSIM_WINDOW else None,
            temporal_error=temporal_error(clip, reference) if len(clip) > 1 else None,
            seconds=seconds,
            alignment=self.align(clip, prompt) if self.align else None,
        )
        self.file.add_damage(prompt, seed, policy, damage)

    def _generate(self, prompt: str, seed: int, policy: Policy) -> tuple[torch.Tensor, float]:
        self.pipeline.tadp.use(policy)
        generator = torch.Generator().manual_seed(seed)
        started = time.perf_counter()
        result = self.pipeline(prompt, generator=generator, **{**self.arguments, "output_type": "np"})
        seconds = time.perf_counter() - started
        clip = result.frames[0] if hasattr(result, "frames") else result.images[:1]
        return torch.from_numpy(clip).float().contiguous(), seconds

    def _keep_features(self, prompt: str, seed: int) -> None:
        controller = self.pipeline.tadp
        generation = controller.clock.generation
        measured = [record.signals for record in controller.history if record.generation == generation]
        found = features([signals for signals in measured if signals is not None])
        if found and not self.file.sample(prompt, seed).features:
            self.file.add_features(prompt, seed, found)

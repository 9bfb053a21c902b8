"""What was measured on sample content, in a file that an interrupted run goes on with."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tadp.calibration.journal import Journal

SCHEMA = 3


@dataclass(frozen=True)
class Outcome:
    """The error of a clip, which is its distance to the one at 16 bits of the same prompt and seed, and what it cost.

    Attributes:
        mse: mean squared error of values in [0, 1].
        ssim: structural similarity, 1 for equal clips; None for frames that are too small.
        temporal_error: see `tadp.quality.temporal`; None for single images.
        seconds: of the whole generation.
        alignment: how much of the prompt the clip shows, in [0, 1]; None where that was not asked.
        recipes: how many runs of blocks were at each recipe.
        weight_bytes: the most that weights took in memory after a step; None where the pipeline calls nothing back.
        ms_ssim: structural similarity at five scales; None for frames that are too small.
        lpips: learned perceptual distance; None where its weights are not on this machine.
        reused: share of the runs of blocks that were left out, by step; empty where that was not noted.
        kept_bytes: the most that residuals for reuse took in memory.
    """

    mse: float
    ssim: float | None
    temporal_error: float | None
    seconds: float
    alignment: float | None = None
    recipes: Mapping[str, int] = field(default_factory=dict)
    weight_bytes: int | None = None
    ms_ssim: float | None = None
    lpips: float | None = None
    reused: tuple[float, ...] = ()
    kept_bytes: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "reused", tuple(self.reused))  # JSON has lists

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB; inf for equal clips."""
        return -10 * math.log10(self.mse) if self.mse > 0 else math.inf


@dataclass(frozen=True)
class Sample:
    """One prompt and seed: what its probe measured, and the outcome of every policy that was tried."""

    prompt: str
    seed: int
    features: Mapping[str, float] = field(default_factory=dict)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)


class SampleFile:
    """Measurements on disk, with the samples that they make up in the order in which they began."""

    def __init__(self, path: Path, key: Mapping[str, object]) -> None:
        """Open what was measured under a key, or start a file.

        Args:
            path: of the file; its directory is made.
            key: what measurements must have in common: model, versions, call, ...

        Raises:
            ValueError: if the file was measured under another key, or is damaged before its last line.
        """
        self._samples: dict[tuple[str, int], Sample] = {}
        self._journal = Journal(path, {"schema": SCHEMA, **key}, self._take)

    @property
    def path(self) -> Path:
        """Of the file."""
        return self._journal.path

    @property
    def samples(self) -> tuple[Sample, ...]:
        """All samples, whole or not."""
        return tuple(self._samples.values())

    def sample(self, prompt: str, seed: int) -> Sample:
        """What is known of a prompt and seed so far."""
        return self._samples.get((prompt, seed), Sample(prompt, seed))

    def add_features(self, prompt: str, seed: int, features: Mapping[str, float]) -> None:
        """Keep what the probe measured; it is on disk when this returns."""
        self._journal.add({"prompt": prompt, "seed": seed, "features": dict(features)})

    def add_outcome(self, prompt: str, seed: int, policy: str, outcome: Outcome) -> None:
        """Keep the outcome of a policy, by its key; it is on disk when this returns."""
        self._journal.add({"prompt": prompt, "seed": seed, "outcomes": {policy: asdict(outcome)}})

    def _take(self, content: dict[str, Any]) -> None:
        prompt, seed = content["prompt"], content["seed"]
        known = self.sample(prompt, seed)
        outcomes = {policy: Outcome(**values) for policy, values in content.get("outcomes", {}).items()}
        features = content.get("features", {})
        self._samples[prompt, seed] = Sample(
            prompt, seed, {**known.features, **features}, {**known.outcomes, **outcomes}
        )

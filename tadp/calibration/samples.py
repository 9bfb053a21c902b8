"""Samples of content with what every policy cost them, in a file that an interrupted run goes on with.

The file is JSON Lines: what was measured with, then a sample a line, written when it is complete.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Damage:
    """How far a clip is from the one at 16 bits of the same seed, and what it took.

    Attributes:
        mse: mean squared error of values in [0, 1].
        ssim: structural similarity, 1 for equal clips.
        temporal_error: see `tadp.quality.temporal`.
        seconds: of the whole generation.
    """

    mse: float
    ssim: float
    temporal_error: float
    seconds: float

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio in dB; inf for equal clips."""
        return -10 * math.log10(self.mse) if self.mse > 0 else math.inf


@dataclass(frozen=True)
class Sample:
    """One prompt and seed: what the probe measured, and the damage of every policy but the reference."""

    prompt: str
    seed: int
    features: Mapping[str, float]
    damage: Mapping[str, Damage]


class SampleFile:
    """Samples on disk, in the order in which they were measured."""

    def __init__(self, path: Path, key: Mapping[str, object]) -> None:
        """Open the samples measured under a key, or start a file.

        Args:
            path: of the file; its directory is made.
            key: what samples must have in common: model, versions, policies, ...

        Raises:
            ValueError: if the file was measured under another key, or is damaged before its last line.
        """
        self.path = path
        header = json.dumps({"schema": SCHEMA, **key}, sort_keys=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = path.read_text() if path.exists() else ""
        kept = text[: text.rfind("\n") + 1] or header + "\n"  # a killed run may have left half a line behind
        if kept != text:
            partial = path.with_suffix(".partial")
            partial.write_text(kept)
            partial.replace(path)
        lines = kept.splitlines()
        if lines[0] != header:
            raise ValueError(
                f"{path} was measured with another model, version or request; remove it to measure anew, or name "
                f"another file. It says {lines[0][:200]}, now it is {header[:200]}"
            )
        self.samples = [self._parse(number, line) for number, line in enumerate(lines[1:], start=2)]

    def has(self, prompt: str, seed: int) -> bool:
        """Whether a sample was measured."""
        return any((sample.prompt, sample.seed) == (prompt, seed) for sample in self.samples)

    def add(self, sample: Sample) -> None:
        """Append a sample; it is on disk when this returns."""
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(sample)) + "\n")
        self.samples.append(sample)

    def _parse(self, number: int, line: str) -> Sample:
        try:
            content: dict[str, Any] = json.loads(line)
            damage = {policy: Damage(**values) for policy, values in content.pop("damage").items()}
            return Sample(**content, damage=damage)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{self.path}, line {number}, is damaged ({error}); remove the file to measure anew"
            ) from error

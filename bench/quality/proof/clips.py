"""Clips of every setting from the same noise, and what each is off by, in a file that the next run goes on with."""

import hashlib
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bench.models.model import GENERATION
from bench.quality.proof.caches import Shell, cached, with_magnitudes
from bench.quality.proof.settings import REFERENCE, Setting
from tadp.calibration.journal import Journal
from tadp.demo.captions.alignment import alignment
from tadp.demo.scenes import sample_scene
from tadp.planning.calibration import Calibration
from tadp.policy import parse
from tadp.precision import L0, Recipe
from tadp.quality.fidelity import ssim
from tadp.quality.temporal import temporal_error
from tadp.runtime.compiled import latest_records

FIRST_SCENE = 11 * 10**9
"""The seed that prompts are drawn by: no calibration and no training has seen these scenes."""
ARGUMENTS = {name: value for name, value in GENERATION.items() if name != "output_type"}


@dataclass(frozen=True)
class Clip:
    """One clip.

    Attributes:
        setting: its name.
        prompt, seed: what it shows, and its noise.
        mse: mean squared error against the clip at 16 bits from the same noise, of values in [0, 1].
        ssim: structural similarity with it.
        temporal_error: see `tadp.quality.temporal`.
        alignment: how much of the prompt it shows, in [0, 1].
        seconds: of the whole call, from text to frames.
        forward_seconds: of the transformer's forwards.
        run: share of the runs of blocks that a clip without reuse has.
        score: complexity, where a policy measured it.
    """

    setting: str
    prompt: str
    seed: int
    mse: float
    ssim: float
    temporal_error: float
    alignment: float
    seconds: float
    forward_seconds: float
    run: float
    score: float | None = None


def contents(prompts: int, seeds: int) -> list[tuple[str, int]]:
    """Prompts of one to five objects in turn, each with several seeds; all prompts come before the next seed."""
    return [
        (sample_scene(FIRST_SCENE + index, 1 + index % 5).caption, index + 1000 * seed)
        for seed in range(seeds)
        for index in range(prompts)
    ]


class ClipFile:
    """Clips on disk, of one machine and one model."""

    def __init__(self, path: Path, key: Mapping[str, object]) -> None:
        self.clips: list[Clip] = []
        self._journal = Journal(path, key, lambda found: self.clips.append(Clip(**found)))

    def missing(self, pair: tuple[str, int], settings: Iterable[Setting]) -> list[Setting]:
        """The settings of which there is no clip of a prompt and seed."""
        known = {clip.setting for clip in self.clips if (clip.prompt, clip.seed) == pair}
        return [setting for setting in settings if setting.name not in known]

    def add(self, clip: Clip) -> None:
        """Keep a clip; it is on disk when this returns."""
        self._journal.add(asdict(clip))


@dataclass(frozen=True)
class Subject:
    """What makes clips.

    Attributes:
        pipeline: compiled, without a calibration.
        calibration: of settings that take one.
        ratios: of MagCache.
    """

    pipeline: Any
    calibration: Calibration
    ratios: Sequence[float]

    def use(self, setting: Setting) -> None:
        """Follow the policy of a setting."""
        policy = parse(setting.policy)
        self.pipeline.tadp.use(policy.calibrated(self.calibration) if setting.calibrated else policy)


def measure(subject: Subject, file: ClipFile, pair: tuple[str, int], settings: Sequence[Setting]) -> Iterator[Clip]:
    """Every setting that is missing of a prompt and seed. The order is another one each time, as machines drift."""
    missing = file.missing(pair, settings)
    reference = None
    for setting in sorted(missing, key=lambda one: (one.name != REFERENCE, _shuffled(one.name, pair))):
        if reference is None and setting.name != REFERENCE:
            reference, _ = _generate(subject, Setting(REFERENCE), pair, None)
        frames, clip = _generate(subject, setting, pair, reference)
        reference = frames if reference is None else reference
        file.add(clip)
        yield clip


def _generate(
    subject: Subject, setting: Setting, pair: tuple[str, int], reference: torch.Tensor | None
) -> tuple[torch.Tensor, Clip]:
    (prompt, seed), pipeline = pair, subject.pipeline
    subject.use(setting)
    around: AbstractContextManager[Sequence[Shell]] = nullcontext(())
    if setting.cache is not None:
        around = cached(pipeline.transformer, with_magnitudes(setting.cache, subject.ratios))
    with around as shells:
        started = time.perf_counter()
        arguments = {**ARGUMENTS, "num_inference_steps": setting.steps, "output_type": "np"}
        result = pipeline(prompt, generator=torch.Generator().manual_seed(seed), **arguments)
        seconds = time.perf_counter() - started
    records = latest_records(pipeline.tadp)
    executed = sum(sum(recipe != Recipe(L0) for _, recipe in record.plan) for record in records)
    if setting.cache is not None:
        executed = sum(shell.runs for shell in shells)
    frames = torch.from_numpy(result.frames[0]).contiguous()
    other = frames if reference is None else reference
    found = alignment(frames, prompt)
    score = pipeline.tadp.score if setting.policy.startswith("complexity") else None
    return frames, Clip(
        setting=setting.name,
        prompt=prompt,
        seed=seed,
        mse=(frames - other).square().mean().item(),
        ssim=ssim(frames, other),
        temporal_error=temporal_error(frames, other),
        alignment=statistics.fmean((found.color, found.shape, found.motion, found.count)),
        seconds=seconds,
        forward_seconds=sum(record.seconds for record in records),
        run=executed / sum(len(record.plan) for record in records),
        score=None if score is None else score.total,
    )


def _shuffled(name: str, pair: tuple[str, int]) -> bytes:
    return hashlib.sha256(f"{pair} {name}".encode()).digest()

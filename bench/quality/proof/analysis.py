"""What clips say: means, percentiles, mixes of settings, and intervals over prompts."""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.quality.correlation import draws
from bench.quality.proof.clips import Clip
from bench.quality.proof.settings import BASELINE, REFERENCE, SCORED, Setting

THIRDS = ("low", "medium", "high")
TAIL = 5
"""Per cent of the clips: the worst ones."""
LEAST_ERROR = 1e-12
"""Mean squared error that equal clips count as, which is 120 dB."""


@dataclass(frozen=True)
class Found:
    """Clips of which every setting has one.

    Attributes:
        settings: compared.
        mse, seconds, temporal_error, alignment, run: ``(contents,)`` by setting; seconds are multiples of the mean of
            `BASELINE` over the same file.
        scores: complexity by `SCORED`, ``(contents,)``; the first one parts contents into thirds.
        prompts: ``(contents,)``; the seeds of one prompt are not independent.
    """

    settings: tuple[Setting, ...]
    mse: Mapping[str, np.ndarray]
    seconds: Mapping[str, np.ndarray]
    temporal_error: Mapping[str, np.ndarray]
    alignment: Mapping[str, np.ndarray]
    run: Mapping[str, np.ndarray]
    scores: Mapping[str, np.ndarray]
    prompts: np.ndarray

    @cached_property
    def thirds(self) -> np.ndarray:
        """0, 1 or 2 for every content: its third by score."""
        order = np.argsort(np.argsort(self.scores[SCORED[0]], kind="stable"), kind="stable")
        return order * len(THIRDS) // len(order)

    @property
    def rivals(self) -> tuple[Setting, ...]:
        """Everything that is not tadp's reuse or default."""
        return tuple(setting for setting in self.settings if setting.kind != "tadp")

    @property
    def ours(self) -> tuple[Setting, ...]:
        """What is."""
        return tuple(setting for setting in self.settings if setting.kind == "tadp")


def read(paths: Iterable[Path], settings: Sequence[Setting]) -> Found:
    """Put files together; contents that lack a setting are left out.

    Calibrated settings were added later: they are left out themselves where some of the contents lack them.

    Raises:
        ValueError: where no content has all other settings.
    """
    names = [setting.name for setting in settings if not setting.calibrated]
    rows: list[dict[str, Clip]] = []
    bases: list[float] = []
    for path in paths:
        lines = path.read_text().splitlines()[1:]
        by_content: dict[tuple[str, int], dict[str, Clip]] = {}
        for clip in (Clip(**json.loads(line)) for line in lines):
            by_content.setdefault((clip.prompt, clip.seed), {})[clip.setting] = clip
        whole = [clips for clips in by_content.values() if all(name in clips for name in names)]
        base = np.mean([clips[BASELINE].seconds for clips in whole]) if whole else 1.0
        rows += whole
        bases += [float(base)] * len(whole)
    if not rows:
        raise ValueError("no content was made at every setting so far")

    settings = [setting for setting in settings if all(setting.name in clips for clips in rows)]
    names = [setting.name for setting in settings]
    relative = [{name: clips[name].seconds / base for name in names} for clips, base in zip(rows, bases, strict=True)]

    def by_setting(value: Callable[[Clip], float]) -> dict[str, np.ndarray]:
        return {name: np.array([value(clips[name]) for clips in rows]) for name in names}

    return Found(
        settings=tuple(settings),
        mse=by_setting(lambda clip: clip.mse),
        seconds={name: np.array([row[name] for row in relative]) for name in names},
        temporal_error=by_setting(lambda clip: clip.temporal_error),
        alignment=by_setting(lambda clip: clip.alignment),
        run=by_setting(lambda clip: clip.run),
        scores={name: np.array([clips[name].score or 0.0 for clips in rows]) for name in SCORED if name in names},
        prompts=np.array([clips[REFERENCE].prompt for clips in rows]),
    )


def decibels(mse: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of squared errors of values in [0, 1]."""
    return np.asarray(-10 * np.log10(np.maximum(mse, LEAST_ERROR)))


def of_mean_error(mse: np.ndarray, weights: np.ndarray | None = None) -> float:
    """PSNR of the mean squared error, in which bad clips weigh more than in the mean PSNR."""
    return -10 * math.log10(max(float(np.average(mse, weights=weights)), LEAST_ERROR))


def tail(mse: np.ndarray, weights: np.ndarray | None = None) -> float:
    """PSNR that the worst `TAIL` per cent of the clips lie below."""
    order = np.argsort(-mse)
    counts = np.ones(len(mse)) if weights is None else weights
    reached = np.cumsum(counts[order]) >= counts.sum() * TAIL / 100 - 1e-9
    return float(decibels(mse[order][np.argmax(reached)]))


def qualities(mse: np.ndarray) -> dict[str, float]:
    """The figures that tables give of the squared errors of some clips."""
    psnr = decibels(mse)
    return {
        "mean PSNR, dB": float(psnr.mean()),
        "PSNR of the mean error": of_mean_error(mse),
        "5 % are below": tail(mse),
        "lowest": float(psnr.min()),
    }


Quality = Callable[[np.ndarray, np.ndarray | None], float]


def best_mix(found: Found, seconds: float, quality: Quality, chosen: np.ndarray) -> tuple[float, str]:
    """The best that a mix of two rivals reaches in a mean time, and the mix.

    A mix runs one setting for a share of the contents, drawn without looking at them, and another one for the others.
    """
    best, name = -math.inf, ""
    for one, other in itertools.combinations_with_replacement([setting.name for setting in found.rivals], 2):
        times = [float(found.seconds[setting][chosen].mean()) for setting in (one, other)]
        if min(times) > seconds:
            continue
        slow = 1.0 if max(times) <= seconds else (seconds - min(times)) / (max(times) - min(times))
        if times[0] > times[1]:
            one, other = other, one
        errors = np.concatenate([found.mse[one][chosen], found.mse[other][chosen]])
        count = int(chosen.sum()) if chosen.dtype == bool else len(chosen)
        weights = np.concatenate([np.full(count, 1 - slow), np.full(count, slow)])
        reached = quality(errors, weights)
        if reached > best:
            best, name = reached, _mix_name(one, other, slow)
    return best, name


def _mix_name(fast: str, slow: str, share: float) -> str:
    """A mix of two settings, the slow one for a share of the contents."""
    percent = round(100 * share)
    if percent in (0, 100):
        return slow if percent else fast
    return f"{100 - percent}% {fast}, {percent}% {slow}"


def above_best_mix(found: Found, name: str, quality: Quality, chosen: np.ndarray) -> tuple[float, str]:
    """How far a setting lies above the best mix of rivals that takes as long, in dB, and the mix; NaN without one."""
    rival, mix = best_mix(found, float(found.seconds[name][chosen].mean()), quality, chosen)
    return (quality(found.mse[name][chosen], None) - rival, mix) if mix else (math.nan, "")


def spread(found: Found, value: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """95 % of what a figure comes to when prompts are drawn anew; draws for which it is no number are left out."""
    low, high = np.nanpercentile([value(drawn) for drawn in draws(found.prompts)], (2.5, 97.5))
    return float(low), float(high)

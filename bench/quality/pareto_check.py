"""Whole clips on the clock, beside the seconds that their recipes add up to; part of bench.quality.pareto."""

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm

from bench.quality.pareto_report import seconds_of
from tadp.demo.scenes import sample_scene
from tadp.planning.calibration import Calibration
from tadp.policy import Policy

FIRST_SCENE = 9 * 10**9


def check_seconds(
    pipeline: Any, arguments: Mapping[str, Any], calibration: Calibration, policies: Sequence[Policy], prompts: int
) -> list[dict[str, object]]:
    """Time a clip of every policy for each prompt, policies in turn."""
    measured: dict[str, list[float]] = {}
    told: dict[str, list[float]] = {}
    for index in tqdm(range(-1, prompts), desc="timing clips", unit="prompt"):
        caption = sample_scene(FIRST_SCENE + max(index, 0), 1 + max(index, 0) % 5).caption
        for policy in policies:
            pipeline.tadp.use(policy)
            started = time.perf_counter()
            pipeline(caption, generator=torch.Generator().manual_seed(index + 1), output_type="np", **arguments)
            seconds = time.perf_counter() - started
            generation = pipeline.tadp.clock.generation
            records = [record for record in pipeline.tadp.history if record.generation == generation]
            recipes = Counter(str(recipe) for record in records for _, recipe in record.plan)
            if index >= 0:  # the first round compiles
                measured.setdefault(policy.key, []).append(seconds)
                told.setdefault(policy.key, []).append(seconds_of(recipes, calibration))
    return [
        {
            "policy": name,
            "clip on the clock, s": statistics.median(times),
            "from recipes, s": statistics.median(told[name]),
        }
        for name, times in measured.items()
    ]

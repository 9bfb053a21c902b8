"""Seconds of a block at every recipe, from forwards of the whole model in turn."""

import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from tqdm import tqdm

from tadp.calibration.prediction_error import predict
from tadp.calibration.recording import Step
from tadp.planning.blocks import by_list
from tadp.policy.fixed import Fixed
from tadp.precision import Plan, Recipe
from tadp.runtime.compiled import Compiled, latest_records

ROUNDS = 5


def seconds_of_recipes(
    model: Compiled, step: Step, blocks: Sequence[str], menu: Sequence[Recipe], rounds: int = ROUNDS
) -> dict[tuple[str, Recipe], float]:
    """Time a step with all blocks of one list at one recipe and the others at 16 bits.

    The blocks of a list are taken to cost the same. What a step takes outside the blocks cannot be told from what a
    block takes at 16 bits; it is taken to be nothing here, and the difference shows in no comparison of plans.

    Args:
        model: compiled.
        step: recorded; all its guidance branches run.
        blocks: of the model.
        menu: recipes, 16 bits among them.
        rounds: of forwards of every candidate in turn, of which the median counts.

    Returns:
        Seconds of a block in one step by block and recipe.
    """
    lists = by_list(blocks)
    candidates = {(name, recipe): Plan.of(dict.fromkeys(own, recipe)) for name, own in lists.items() for recipe in menu}
    found: dict[tuple[str, Recipe], list[float]] = {key: [] for key in candidates}
    for turn in tqdm(range(rounds + 1), desc="timing recipes", unit="round"):
        for key, plan in candidates.items():
            model.tadp.use(Fixed(plan))
            if not turn:
                predict(model, step)  # compiles
            predict(model, step)  # binds weights anew
            found[key].append(_timed(model, step))
    medians = {key: statistics.median(times[1:]) for key, times in found.items()}
    whole = statistics.fmean(medians[name, Recipe()] for name in lists)
    at_16 = whole / len(blocks)
    return {
        (block, recipe): at_16 - (whole - medians[name, recipe]) / len(own)
        for name, own in lists.items()
        for block in own
        for recipe in menu
    }


def seconds_outside_forwards(pipeline: Compiled, model: Compiled, prompt: str, arguments: Mapping[str, Any]) -> float:
    """What a generation takes besides the forwards of its transformer: text encoder, sampler, decoder."""
    started = time.perf_counter()
    pipeline(prompt, generator=torch.Generator().manual_seed(0), **{**arguments, "output_type": "np"})
    whole = time.perf_counter() - started
    return max(whole - sum(record.seconds for record in latest_records(model.tadp)), 0.0)


def _timed(model: Compiled, step: Step) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    predict(model, step)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started

"""A whole calibration: from a pipeline and prompts to costs, a score and a lookup table."""

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from tadp.calibration.clips import REFERENCE, ClipMeasurer
from tadp.calibration.fit import ScoreFit, candidates, fit, normal_scores
from tadp.calibration.line import fit_line, log_error
from tadp.calibration.prediction_error import PredictionError, PredictionErrorFile, alone, predict
from tadp.calibration.recording import stage_of
from tadp.calibration.samples import Sample, SampleFile
from tadp.calibration.sensitivity import role_sensitivity
from tadp.calibration.subject import Subject
from tadp.calibration.timing import seconds_of_recipes, seconds_outside_forwards
from tadp.planning.calibration import Calibration, Row
from tadp.planning.costs import BlockCost, Costs
from tadp.policy import Policy, Seen, Static, parse
from tadp.policy.complexity import PROBE_STEPS
from tadp.policy.fixed import Fixed
from tadp.policy.plans import uniform_plan
from tadp.policy.staged import Staged
from tadp.precision import L4, L6, L8, L16, Level, Recipe
from tadp.writing import replacing

MENU = (
    *(Static(level, attention=attention).recipe for level in (L16, L8, L6, L4) for attention in (L16, L8)),
    Recipe(Level.parse("w8a16")),
)
"""The recipes whose costs are measured, and that budgets choose from."""
BASE = Static(L8, attention=L8)
"""The policy whose error is the unit of all errors."""
STATIC = (BASE.key, "static:8", "static:6", "static:4")
PROBE = Static(L8, keep_ends=True, probe_steps=PROBE_STEPS)


def calibrate(subject: Subject, prompts: Sequence[str], work: Path) -> Calibration:
    """Measure everything that is missing in a directory of earlier work, and put it together.

    Args:
        subject: see `prepare`.
        prompts: sample content, from simple to complex.
        work: where measurements are kept; an interrupted run goes on with them.

    Raises:
        ValueError: for too few prompts, and where the directory holds measurements of something else.
    """
    seeded = [(prompt, subject.seed + index) for index, prompt in enumerate(prompts)]
    blocks = _blocks(subject)
    known = PredictionErrorFile(work / "blocks.jsonl", subject)
    errors = {
        (block, recipe): known.of(alone(block, recipe))
        for block in tqdm(blocks, desc="lowering blocks one by one", unit="block")
        for recipe in MENU
    }
    first = replace(subject, recorded=subject.recorded[: len(subject.counts)])
    sensitivity = role_sensitivity(first, blocks, PredictionErrorFile(work / "roles.jsonl", first))
    seconds, outside = _seconds(subject, blocks, prompts[0], work / "seconds.json")
    memory = _bytes(subject, blocks)
    samples = measure_clips(subject, seeded, work)
    found = _fit_score(samples)
    scores = [found.score(candidates(sample)) for sample in samples]
    base = fit_line(scores, [log_error(sample, BASE.key) for sample in samples])
    per_stage = {
        pair: tuple(_mean(of_step, subject, stage) for stage in range(len(subject.counts)))
        for pair, of_step in errors.items()
    }
    costs = Costs(
        blocks={
            block: {
                recipe: BlockCost(per_stage[block, recipe], seconds[block, recipe], memory[block, recipe])
                for recipe in MENU
            }
            for block in blocks
        },
        base=BASE.recipe,
        stages=subject.stages,
        steps=subject.counts,
        shares=_shares(subject, samples),
        intercept=base.intercept,
        slope=base.slope,
        spread=base.spread,
        other_seconds=outside,
        other_bytes=memory["", Recipe()],
    )
    return Calibration(
        key=subject.key,
        ranges=found.ranges,
        weights=found.weights,
        correlations=found.correlations,
        left_out=found.left_out,
        costs=costs,
        table=_table(costs, scores, samples, blocks),
        sensitivity=sensitivity,
        samples=len(samples),
        bias=_bias(costs, scores, samples, blocks),
        channel_peaks=subject.peaks,
        channel_widths=subject.channel_widths,
    )


def measure_clips(subject: Subject, prompts: Sequence[tuple[str, int]], work: Path) -> list[Sample]:
    """The outcomes of static policies, and of the base recipe in one stage after the other, for every prompt."""
    file = SampleFile(work / "samples.jsonl", subject.key)
    measurer = ClipMeasurer(subject.pipeline, subject.arguments, file, work / "references")
    policies = (parse(REFERENCE), PROBE, *map(parse, STATIC), *windows(subject.stages))
    missing = measurer.missing(prompts, policies)
    for prompt, seed, policy in tqdm(missing, desc="generating clips", unit="clip", disable=not missing):
        measurer.measure(prompt, seed, policy)
    return [file.sample(prompt, seed) for prompt, seed in prompts]


def windows(stages: tuple[float, ...]) -> tuple[Policy, ...]:
    """The base recipe in one stage and 16 bits in all others, for every stage."""
    count = len(stages) + 1
    return tuple(
        Staged(tuple(BASE.recipe if stage == lowered else Recipe() for stage in range(count)), stages)
        for lowered in range(count)
    )


def _blocks(subject: Subject) -> tuple[str, ...]:
    blocks: tuple[str, ...] = subject.model.tadp.blocks
    return blocks


def _mean(errors: Sequence[PredictionError], subject: Subject, stage: int) -> float:
    """Mean visual error over the recorded steps of a stage."""
    steps = zip(errors, subject.recorded, strict=True)
    return statistics.fmean(error.visual for error, step in steps if stage_of(step.noise, subject.stages) == stage)


def _shares(subject: Subject, samples: Sequence[Sample]) -> tuple[float, ...]:
    """What each stage contributes to the squared error at the base recipe, as far as single stages tell."""
    alone = [
        statistics.median(sample.outcomes[policy.key].mse / sample.outcomes[BASE.key].mse for sample in samples)
        for policy in windows(subject.stages)
    ]
    return tuple(share / sum(alone) for share in alone)


def _seconds(
    subject: Subject, blocks: Sequence[str], prompt: str, path: Path
) -> tuple[dict[tuple[str, Recipe], float], float]:
    """Seconds of a block in a step, by block and recipe, and of a generation outside forwards; kept in a file."""
    key = json.dumps({**subject.key, "machine": platform.node(), "threads": torch.get_num_threads()}, sort_keys=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    if known.get("key") != key:
        measured = seconds_of_recipes(subject.model, subject.recorded[0], blocks, MENU)
        outside = seconds_outside_forwards(subject.pipeline, subject.model, prompt, subject.arguments)
        rows = [[block, str(recipe), seconds] for (block, recipe), seconds in measured.items()]
        known = {"key": key, "outside": outside, "blocks": rows}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(known))
    return {(block, Recipe.parse(recipe)): seconds for block, recipe, seconds in known["blocks"]}, known["outside"]


def _bytes(subject: Subject, blocks: Sequence[str]) -> dict[tuple[str, Recipe], int]:
    """Bytes of weights in memory by block and recipe, and, under no block's name, of everything else."""
    controller = subject.model.tadp
    controller.use(Fixed(uniform_plan(tuple(blocks), Recipe(L8), keep_ends=False)))
    predict(subject.model, subject.recorded[0])
    least = controller.weight_bytes()
    found: dict[tuple[str, Recipe], int] = {}
    for block in blocks:
        controller.use(Fixed(uniform_plan(tuple(blocks), Recipe(L8), keep_ends=False).replaced(block, Recipe())))
        predict(subject.model, subject.recorded[0])
        masters = controller.weight_bytes() - least
        for recipe in MENU:
            found[block, recipe] = masters if recipe.has(L16) else 0
    return found | {("", Recipe()): least}


def _fit_score(samples: Sequence[Sample]) -> ScoreFit:
    """The score that predicts the errors of static policies, the mean of its normal scores."""
    errors = [normal_scores([log_error(sample, policy) for sample in samples]) for policy in STATIC]
    return fit([candidates(sample) for sample in samples], np.mean(errors, axis=0).tolist())


def _table(costs: Costs, scores: Sequence[float], samples: Sequence[Sample], blocks: Sequence[str]) -> tuple[Row, ...]:
    """The lookup table of static policies."""
    rows = []
    for policy in (PROBE, *map(parse, STATIC)):
        schedule = [policy.plan(Seen(tuple(blocks)))] * len(costs.steps)
        errors = [log_error(sample, policy.key) for sample in samples]
        rows.append(Row(policy.key, fit_line(scores, errors), costs.seconds(schedule), costs.bytes(schedule)))
    return tuple(rows)


def _bias(costs: Costs, scores: Sequence[float], samples: Sequence[Sample], blocks: Sequence[str]) -> dict[str, float]:
    found = {}
    for policy in (PROBE, *map(parse, STATIC)):
        plan = policy.plan(Seen(tuple(blocks)))
        schedule = [plan] * len(costs.steps)
        misses = [
            costs.psnr(schedule, score) + 10 * log_error(sample, policy.key)
            for score, sample in zip(scores, samples, strict=True)
        ]
        found[policy.key] = statistics.fmean(misses)
    return found

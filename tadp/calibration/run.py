"""A whole calibration: from a pipeline and prompts to costs, a score and a lookup table."""

import json
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from tadp.calibration.clip_policies import (
    BASE,
    MENU,
    PROBE,
    SCORED,
    everywhere,
    of_all,
    of_few,
    of_some,
    windows,
)
from tadp.calibration.clips import ClipMeasurer
from tadp.calibration.fit import ScoreFit, candidates, fit, normal_scores
from tadp.calibration.line import SMALLEST, fit_line, log_error
from tadp.calibration.prediction_error import QUALITY_OF_ROLE, PredictionError, PredictionErrorFile, alone, predict
from tadp.calibration.recording import stage_of
from tadp.calibration.reuse import fit_reuse
from tadp.calibration.samples import Sample, SampleFile
from tadp.calibration.sensitivity import ROLE_LEVELS, role_sensitivity
from tadp.calibration.subject import Subject
from tadp.calibration.timing import seconds_of_recipes, seconds_outside_forwards
from tadp.planning.calibration import Calibration, Row
from tadp.planning.costs import BlockCost, Costs
from tadp.policy import Policy, Seen, parse
from tadp.policy.fixed import Fixed
from tadp.policy.plans import uniform_plan
from tadp.precision import L8, L16, Recipe
from tadp.writing import replacing


def calibrate(
    subject: Subject,
    prompts: Sequence[str],
    work: Path,
    tell: Callable[[str], object] = lambda _: None,
    *,
    roles: bool = False,
) -> Calibration:
    """Measure everything that is missing in a directory of earlier work, and put it together.

    Args:
        subject: see `prepare`.
        prompts: sample content, from simple to complex.
        work: where measurements are kept; an interrupted run goes on with them.
        tell: is given a sentence that says how long it will take.
        roles: whether to measure the sensitivity of the roles of every block too, which no policy reads.

    Raises:
        ValueError: for too few prompts, and where the directory holds measurements of something else.
    """
    seeded = [(prompt, subject.seed + index) for index, prompt in enumerate(prompts)]
    blocks = _blocks(subject)
    clips = ClipWork.open(subject, seeded, work)
    known = PredictionErrorFile(work / "blocks.jsonl", subject)
    plans = known.missing(alone(block, recipe) for block in blocks for recipe in MENU)
    of_roles = len(blocks) * len(QUALITY_OF_ROLE) * len(ROLE_LEVELS) if roles else 0
    tell(_expected(subject, len(clips.missing), plans, of_roles))
    errors = {
        (block, recipe): known.of(alone(block, recipe))
        for block in tqdm(blocks, desc="lowering blocks one by one", unit="block")
        for recipe in MENU
    }
    first = replace(subject, recorded=subject.recorded[: len(subject.counts)])
    sensitivity = role_sensitivity(first, blocks, PredictionErrorFile(work / "roles.jsonl", first)) if roles else ()
    seconds, outside = _seconds(subject, blocks, prompts[0], work / "seconds.json")
    memory = _bytes(subject, blocks)
    samples, some = clips.measure()
    found = _fit_score(samples)
    scores, scores_of_some = ([found.score(candidates(sample)) for sample in own] for own in (samples, some))
    base = fit_line(scores, [log_error(sample, BASE.key) for sample in samples])
    shares = _shares(subject, some)
    per_stage = _scaled({pair: _of_stages(of_step, subject) for pair, of_step in errors.items()}, shares, samples)
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
        shares=shares,
        intercept=base.intercept,
        slope=base.slope,
        spread=base.spread,
        other_seconds=outside,
        other_bytes=memory["", Recipe()],
        reuse=fit_reuse(some, scores_of_some, subject.stages, subject.counts),
    )
    table = [_row(costs, everywhere(recipe).key, samples, scores, blocks) for recipe in MENU[1:]]
    return Calibration(
        key=subject.key,
        ranges=found.ranges,
        weights=found.weights,
        correlations=found.correlations,
        left_out=found.left_out,
        costs=costs,
        table=tuple(row for row, _ in table),
        sensitivity=sensitivity,
        samples=len(samples),
        bias={row.policy: bias for row, bias in table},
        channel_peaks=subject.peaks,
        channel_widths=subject.channel_widths,
    )


@dataclass(frozen=True)
class ClipWork:
    """The clips that a calibration generates: by few policies on every prompt, by more on every second and fourth.

    Attributes:
        measurer: of clips.
        wanted: prompts with the policies that each needs.
    """

    measurer: ClipMeasurer
    wanted: Mapping[tuple[str, int], tuple[Policy, ...]]

    @staticmethod
    def open(subject: Subject, prompts: Sequence[tuple[str, int]], work: Path) -> "ClipWork":
        """What a directory of earlier work holds, and what it lacks.

        Raises:
            ValueError: where it holds measurements of something else.
        """
        file = SampleFile(work / "samples.jsonl", subject.key)
        measurer = ClipMeasurer(subject.pipeline, subject.arguments, file, work / "references", reference=PROBE)
        by_turn = ((1, of_all()), (2, of_some(subject.stages)), (4, of_few()))
        wanted = {
            pair: tuple(policy for every, policies in by_turn if index % every == 0 for policy in policies)
            for index, pair in enumerate(prompts)
        }
        return ClipWork(measurer, wanted)

    @property
    def missing(self) -> list[tuple[str, int, Policy]]:
        """Prompt, seed and policy of the clips that are not measured yet."""
        return [clip for pair, policies in self.wanted.items() for clip in self.measurer.missing([pair], policies)]

    def measure(self) -> tuple[list[Sample], list[Sample]]:
        """Generate what is missing. The samples of all prompts, and of those with all policies."""
        missing = self.missing
        for prompt, seed, policy in tqdm(missing, desc="generating clips", unit="clip", disable=not missing):
            self.measurer.measure(prompt, seed, policy)
        samples = [self.measurer.file.sample(*pair) for pair in self.wanted]
        return samples, samples[::2]


def _expected(subject: Subject, clips: int, plans: int, of_roles: int) -> str:
    """How long calibrating takes, told from the clips that were recorded: at most, as most of it runs below 16 bits."""
    steps = plans * len(subject.recorded) + of_roles * len(subject.counts)
    minutes = subject.clip_seconds * (clips + steps / sum(subject.counts)) / 60
    return (
        f"calibrating takes up to {minutes:.0f} minutes and what compiling takes: {clips} clips and {steps:,} single "
        f"steps, with {subject.clip_seconds:.1f} s a clip at 16 bits. It may be interrupted and goes on where it was"
    )


def _blocks(subject: Subject) -> tuple[str, ...]:
    blocks: tuple[str, ...] = subject.model.tadp.blocks
    return blocks


def _of_stages(errors: Sequence[PredictionError], subject: Subject) -> tuple[float, ...]:
    """Mean visual error over the recorded steps of each stage."""
    stages = [stage_of(step.noise, subject.stages) for step in subject.recorded]
    return tuple(
        statistics.fmean(error.visual for error, found in zip(errors, stages, strict=True) if found == stage)
        for stage in range(len(subject.counts))
    )


def _scaled(
    errors: Mapping[tuple[str, Recipe], tuple[float, ...]], shares: Sequence[float], samples: Sequence[Sample]
) -> dict[tuple[str, Recipe], tuple[float, ...]]:
    """Errors of blocks, those of each recipe scaled by how far off clips at it are, compared with clips at the base.

    Errors of single steps put recipes nearer together than clips do: a model that rounds to 16 bits rounds another way
    after every change, which is in all of them alike. That part is new in every step and evens out over a clip; errors
    of rounded weights are the same in all steps and add up.
    """
    by_recipe = {recipe: [own for (_, other), own in errors.items() if other == recipe] for recipe in MENU}
    sums = {recipe: [sum(of_stage) for of_stage in zip(*own, strict=True)] for recipe, own in by_recipe.items()}
    scales = {Recipe(): 1.0}
    for recipe in MENU[1:]:
        parts = zip(shares, sums[recipe], sums[BASE.recipe], strict=True)
        told = sum(share * own / base for share, own, base in parts)
        policy = everywhere(recipe).key
        known = [sample.outcomes for sample in samples if policy in sample.outcomes]
        found = [max(of[policy].mse, SMALLEST) / max(of[BASE.key].mse, SMALLEST) for of in known]
        scales[recipe] = statistics.median(found) / told if told > 0 else 1.0
    return {(block, recipe): tuple(scales[recipe] * error for error in own) for (block, recipe), own in errors.items()}


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
    errors = [normal_scores([log_error(sample, policy) for sample in samples]) for policy in SCORED]
    return fit([candidates(sample) for sample in samples], np.mean(errors, axis=0).tolist())


def _row(
    costs: Costs, policy: str, samples: Sequence[Sample], scores: Sequence[float], blocks: Sequence[str]
) -> tuple[Row, float]:
    """A static policy in the lookup table, and predicted minus measured PSNR in dB."""
    schedule = (parse(policy).plan(Seen(tuple(blocks))),) * len(costs.steps)
    pairs = zip(samples, scores, strict=True)
    own = [(score, log_error(sample, policy)) for sample, score in pairs if policy in sample.outcomes]
    line = fit_line([score for score, _ in own], [error for _, error in own])
    bias = statistics.fmean(costs.psnr(schedule, score) + 10 * error for score, error in own)
    return Row(policy, line, costs.seconds(schedule), costs.bytes(schedule)), bias

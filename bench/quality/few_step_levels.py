"""What do lower levels cost a model of four steps, in which steps, and can a score foretell it before the first one?

Four steps leave no room for a probe of two. A zero probe would choose a plan before the first step, from the prompt and
what earlier generations of the model showed, and correct it by what each step measures. Whether that can work is a
question of rank correlation with the error, which this measures before and after the first step.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import tadp
from bench.models.model import GENERATION
from bench.quality.correlation import interval, spearman
from bench.quality.proof.analysis import decibels, qualities
from bench.record import parser, record
from tadp.complexity import text
from tadp.complexity.score import judge
from tadp.demo.few_steps import load_few_steps
from tadp.demo.scenes import sample_scene
from tadp.policy.plans import scored
from tadp.runtime.compiled import latest_records
from tadp.runtime.signals import features

FIRST_SCENE = 13 * 10**9
STEPS = 4
REFERENCE = "static:16,probe=1"
BASELINE = "static:8"
POLICIES = (
    BASELINE,
    "static:8+attention",
    "static:16+attention",
    "static:w8a16",
    "staged:16,0.95:8+attention",  # the first step of four at 16 bits
    "staged:16,0.9:8+attention",  # two
    "staged:16,0.7:8+attention",  # three
    "staged:8+attention,0.95:16",  # all but the first
    "complexity",
)


@dataclass(frozen=True)
class _Clip:
    frames: torch.Tensor
    seconds: float


def main() -> None:
    """Clips of one to five objects at every policy, in turn."""
    options = parser(__doc__)
    options.add_argument("--clips", type=int, default=50)
    chosen = options.parse_args()
    pipeline = tadp.compile(load_few_steps(), policy=REFERENCE, calibration=None)
    pipeline.set_progress_bar_config(disable=True)
    prompts = [sample_scene(FIRST_SCENE + index, 1 + index % 5).caption for index in range(chosen.clips)]
    for policy in (REFERENCE, *POLICIES):
        _generate(pipeline, prompts[0], 0, policy)  # compiles
    clips: dict[str, list[_Clip]] = {policy: [] for policy in (REFERENCE, *POLICIES)}
    measured: list[dict[str, float]] = []
    for seed, prompt in enumerate(tqdm(prompts, desc="generating", unit="prompt")):
        for policy in clips:
            clips[policy].append(_generate(pipeline, prompt, seed, policy))
            if policy == REFERENCE:
                measured.append(_features(pipeline))
    references = [clip.frames for clip in clips[REFERENCE]]
    errors = {
        policy: np.array(
            [(clip.frames - other).square().mean().item() for clip, other in zip(found, references, strict=True)]
        )
        for policy, found in clips.items()
        if policy != REFERENCE
    }
    base = statistics.fmean(clip.seconds for clip in clips[BASELINE])
    rows = [_row(policy, clips[policy], errors[policy], base) for policy in POLICIES]
    record(
        "few_step_levels", rows, chosen.json, clips=chosen.clips, steps=STEPS, scores=_scores(prompts, measured, errors)
    )


def _row(policy: str, clips: Sequence[_Clip], mse: np.ndarray, base: float) -> dict[str, object]:
    return {
        "policy": policy,
        f"time, x {BASELINE}": statistics.fmean(clip.seconds for clip in clips) / base,
        **qualities(mse),
    }


def _scores(
    prompts: Sequence[str], measured: Sequence[dict[str, float]], errors: dict[str, np.ndarray]
) -> list[dict[str, object]]:
    """Rank correlation with the error of what is known before the first step, after it, and of both."""
    wording = np.array([text.score(prompt).total for prompt in prompts])
    known: dict[str, np.ndarray] = {"before the first step: the prompt's score": wording}
    for name in sorted(set.intersection(*map(set, measured))):
        known[f"after it: {name}"] = np.array([values[name] for values in measured])
    both = [judge({**values, "text.total": float(words)}) for values, words in zip(measured, wording, strict=True)]
    known["after it: the score of prompt and signals"] = np.array([0.5 if one is None else one.total for one in both])
    rows = []
    for name, values in known.items():
        row: dict[str, object] = {"predictor": name}
        for policy in (BASELINE, "static:8+attention"):
            low, high = interval(values, -decibels(errors[policy]), np.arange(len(values)))
            row[policy] = f"{spearman(values, -decibels(errors[policy])):+.2f} ({low:+.2f} to {high:+.2f})"
        rows.append(row)
    return rows


def _generate(pipeline: Any, prompt: str, seed: int, policy: str) -> _Clip:
    pipeline.tadp.use(policy)
    arguments = {**GENERATION, "num_inference_steps": STEPS, "guidance_scale": 1.0}
    started = time.perf_counter()
    output = pipeline(prompt, generator=torch.Generator().manual_seed(seed), **arguments)
    return _Clip(torch.from_numpy(output.frames[0]), time.perf_counter() - started)


def _features(pipeline: Any) -> dict[str, float]:
    records = latest_records(pipeline.tadp)
    blocks = scored(tuple(block for block, _ in records[0].plan))
    return features([found.signals for found in records if found.signals is not None], blocks)


if __name__ == "__main__":
    main()

"""What does the embedded model of few steps show, and in what time, beside the model that it was distilled from?"""

import itertools
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diffusers import WanPipeline

import tadp
from bench.models.model import demo_pipeline
from bench.quality.alignment import FIRST_SEED, PARTS, goes_straight, scores_of
from bench.record import parser, record, write
from tadp.demo import FEW_STEP_DIR
from tadp.demo.architecture import make_scheduler
from tadp.demo.few_steps import load_few_steps
from tadp.demo.scenes import sample_scene
from tadp.sampling import RCMScheduler


@dataclass(frozen=True)
class Way:
    """A model with a sampler: Euler steps along its shifted schedule, or rCM's times with or without fresh noise."""

    model: str
    sampler: str
    steps: int
    guidance: float


STUDENT = (
    *(Way("few-step", "ode", steps, 1.0) for steps in (4, 3, 2, 1)),
    Way("few-step", "fresh noise", 4, 1.0),
)
TEACHER = (Way("first", "ode", 4, 1.0), Way("first", "ode", 4, 4.0), Way("first", "euler", 20, 4.0))


def main() -> None:
    """Generate clips of one object, then of one that moves straight, in each way."""
    options = parser(__doc__)
    options.add_argument("--clips", type=int, default=50)
    options.add_argument("--few-steps", type=Path, default=FEW_STEP_DIR, help="the student (default: %(default)s)")
    options.add_argument(
        "--only", choices=("few-step", "first"), help="measure one model and keep the other's rows of the JSON"
    )
    chosen = options.parse_args()
    captions = [sample_scene(FIRST_SEED + 1000 + index, 1).caption for index in range(chosen.clips)]
    straight = list(itertools.islice(_straight(), chosen.clips))
    rows = _kept(chosen.json, "first" if chosen.only == "few-step" else "few-step" if chosen.only == "first" else None)
    for model, ways in (("few-step", STUDENT), ("first", TEACHER)):
        if chosen.only not in (None, model):
            continue
        pipeline = _prepared(demo_pipeline() if model == "first" else load_few_steps(directory=chosen.few_steps))
        for way in ways:
            rows.append(_row(pipeline, way, captions, straight))
            if chosen.json is not None:
                write("few_steps", rows, chosen.json, policy="static:16")
    record("few_steps", rows, chosen.json, policy="static:16")


def _kept(path: Path | None, model: str | None) -> list[dict[str, object]]:
    """The rows of a model in an earlier result, if there is one."""
    if path is None or not path.exists():
        return []
    return [row for row in json.loads(path.read_text())["rows"] if row["model"] == model]


def _row(pipeline: WanPipeline, way: Way, captions: list[str], straight: list[str]) -> dict[str, object]:
    pipeline.scheduler = (
        make_scheduler() if way.sampler == "euler" else RCMScheduler(stochastic=way.sampler == "fresh noise")
    )
    arguments = {"num_inference_steps": way.steps, "guidance_scale": way.guidance}
    scores_of(pipeline, captions[:1], **arguments)  # compiles
    start = time.process_time()
    scores = scores_of(pipeline, captions, **arguments)
    seconds = (time.process_time() - start) / len(captions)
    found = {f"{name} found": statistics.fmean(getattr(score, name) for score in scores) for name in PARTS}
    chosen = [score.motion for score, caption in zip(scores, captions, strict=True) if goes_straight(caption)]
    more = [score.motion for score in scores_of(pipeline, straight, **arguments)]
    return {
        "model": way.model,
        "sampler": way.sampler,
        "steps": way.steps,
        "guidance": way.guidance,
        "clips": len(captions),
        **found,
        "direction found": statistics.fmean(chosen),
        "of clips": len(chosen),
        "direction in straight clips": statistics.fmean(more),
        "of straight clips": len(more),
        "CPU seconds a clip": seconds,
    }


def _prepared(pipeline: WanPipeline) -> WanPipeline:
    pipeline.set_progress_bar_config(disable=True)
    return tadp.compile(pipeline, policy="static:16", calibration=None)


def _straight() -> Iterator[str]:
    """The captions that `bench.quality.direction` asks for."""
    drawn = (sample_scene(FIRST_SEED + 10**6 + index, 1).caption for index in itertools.count())
    return (caption for caption in drawn if goes_straight(caption))


if __name__ == "__main__":
    main()

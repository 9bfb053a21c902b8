"""Does the embedded model show what it is asked for? Colours, shapes and motions found in its clips."""

import statistics
from collections.abc import Sequence

import torch
from diffusers import WanPipeline
from tqdm import tqdm

import tadp
from bench.models.model import GENERATION, demo_pipeline
from bench.record import parser, record
from tadp.demo.captions.alignment import AlignmentScore, alignment, parse_caption
from tadp.demo.few_steps import load_few_steps
from tadp.demo.scenes import sample_scene

FIRST_SEED = 5 * 10**9
"""Scenes from here on were never rendered for training."""

PARTS = ("color", "shape", "motion")
DIRECTIONS = {"moves left", "moves right", "moves up", "moves down"}


def main() -> None:
    """Generate clips of one to five objects and look for what their captions say."""
    options = parser(__doc__)
    options.add_argument("--single", type=int, default=50, help="clips of one object")
    options.add_argument("--several", type=int, default=10, help="clips of each of two to five objects")
    options.add_argument("--policy", default="static:16")
    options.add_argument("--few-steps", action="store_true", help="the model of four steps without guidance")
    chosen = options.parse_args()
    pipeline = tadp.compile(
        load_few_steps() if chosen.few_steps else demo_pipeline(), policy=chosen.policy, calibration=None
    )
    pipeline.set_progress_bar_config(disable=True)
    changed = {"num_inference_steps": 4, "guidance_scale": 1.0} if chosen.few_steps else {}
    rows = []
    for objects in range(1, 6):
        count = chosen.single if objects == 1 else chosen.several
        captions = [sample_scene(FIRST_SEED + 1000 * objects + index, objects).caption for index in range(count)]
        scores = scores_of(pipeline, captions, **changed)
        means = {name: statistics.fmean(getattr(score, name) for score in scores) for name in PARTS}
        straight = [score.motion for score, caption in zip(scores, captions, strict=True) if goes_straight(caption)]
        found: dict[str, object] = {f"{name} found": mean for name, mean in means.items()}
        found |= {"direction found": statistics.fmean(straight) if straight else "-", "of clips": len(straight)}
        rows.append({"objects": objects, "clips": count, **found})
    record("alignment", rows, chosen.json, policy=chosen.policy)


def scores_of(pipeline: WanPipeline, captions: Sequence[str], **changed: object) -> list[AlignmentScore]:
    """Generate a clip for each caption, from seeds 0, 1, 2, ..., and look for what it asks for.

    Arguments of the pipeline that differ from the embedded model's may be given.
    """
    scores = []
    for seed, caption in enumerate(tqdm(captions, unit="clip")):
        clip = pipeline(caption, generator=torch.Generator().manual_seed(seed), **{**GENERATION, **changed}).frames[0]
        scores.append(alignment(clip, caption))
    return scores


def goes_straight(caption: str) -> bool:
    """Whether all objects of a caption move left, right, up or down throughout."""
    return all(item.motions and set(item.motions) <= DIRECTIONS for item in parse_caption(caption))


if __name__ == "__main__":
    main()

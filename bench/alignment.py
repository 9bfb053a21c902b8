"""Does the embedded model show what it is asked for? Colours, shapes and motions found in its clips."""

import statistics

import torch
from tqdm import tqdm

import tadp
from bench.model import GENERATION, demo_pipeline
from bench.record import parser, record
from tadp.demo.scenes import sample_scene
from tadp.quality.alignment import alignment, parse_caption

FIRST_SEED = 5 * 10**9
"""Scenes from here on were never rendered for training."""

DIRECTIONS = {"moves left", "moves right", "moves up", "moves down"}


def main() -> None:
    """Generate clips of one to five objects and look for what their captions say."""
    options = parser(__doc__)
    options.add_argument("--single", type=int, default=50, help="clips of one object")
    options.add_argument("--several", type=int, default=10, help="clips of each of two to five objects")
    options.add_argument("--policy", default="static:16")
    chosen = options.parse_args()
    pipeline = tadp.compile(demo_pipeline(), policy=chosen.policy)
    rows = []
    for objects in range(1, 6):
        count = chosen.single if objects == 1 else chosen.several
        captions = [sample_scene(FIRST_SEED + 1000 * objects + index, objects).caption for index in range(count)]
        scores = []
        for index, caption in enumerate(tqdm(captions, desc=f"{objects} objects")):
            generator = torch.Generator().manual_seed(index)
            clip = pipeline(caption, generator=generator, **GENERATION).frames[0]
            scores.append(alignment(clip, caption))
        means = {
            name: statistics.fmean(getattr(score, name) for score in scores) for name in ("color", "shape", "motion")
        }
        straight = [score.motion for score, caption in zip(scores, captions, strict=True) if _goes_straight(caption)]
        found: dict[str, object] = {f"{name} found": mean for name, mean in means.items()}
        direction = statistics.fmean(straight) if straight else "-"
        rows.append(
            {"objects": objects, "clips": count, **found, "direction found": direction, "of clips": len(straight)}
        )
    record("alignment", rows, chosen.json, policy=chosen.policy)


def _goes_straight(caption: str) -> bool:
    """Whether all objects of a caption move left, right, up or down throughout."""
    return all(item.motions and set(item.motions) <= DIRECTIONS for item in parse_caption(caption))


if __name__ == "__main__":
    main()

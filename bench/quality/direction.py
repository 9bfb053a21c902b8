"""Does a single shape go where it is asked to? Only captions that ask for left, right, up or down."""

import itertools
import statistics

import tadp
from bench.models.model import demo_pipeline
from bench.quality.alignment import DIRECTIONS, FIRST_SEED, PARTS, goes_straight, scores_of
from bench.record import parser, record
from tadp.demo.scenes import sample_scene


def main() -> None:
    """Generate clips of one object that moves straight, by the direction asked for."""
    options = parser(__doc__)
    options.add_argument("--clips", type=int, default=50)
    chosen = options.parse_args()
    drawn = (sample_scene(FIRST_SEED + 10**6 + index, 1).caption for index in itertools.count())
    captions = list(itertools.islice((caption for caption in drawn if goes_straight(caption)), chosen.clips))
    scores = scores_of(tadp.compile(demo_pipeline(), policy="static:16", calibration=None), captions)
    rows = []
    for direction in (*sorted(DIRECTIONS), ""):
        picked = [score for score, caption in zip(scores, captions, strict=True) if direction in caption]
        means = {f"{name} found": statistics.fmean(getattr(score, name) for score in picked) for name in PARTS}
        rows.append({"asked for": direction or "all", "clips": len(picked), **means})
    record("direction", rows, chosen.json, policy="static:16")


if __name__ == "__main__":
    main()

"""How long does it take to score a prompt and an image, on one thread and without the caches?"""

import time
from collections.abc import Callable
from itertools import count

import cv2
import numpy as np
import torch
from PIL import Image

from bench.record import parser, record
from tadp.complexity import text
from tadp.complexity.image import measure, score
from tadp.complexity.pixels import shrunk
from tadp.demo.scenes import sample_scene

SIZES = ((1280, 720), (1920, 1080), (480, 832))
OBJECTS = 5


def main() -> None:
    """One row for prompts, and one for every size and form of an image."""
    options = parser(__doc__)
    options.add_argument("--runs", type=int, default=200)
    options.add_argument("--short", action="store_true")
    chosen = options.parse_args()
    runs = 20 if chosen.short else chosen.runs
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    numbers = count()
    rows = [_row("prompt", f"{OBJECTS} objects", lambda: _prompt(next(numbers)), text.score, runs)]
    for width, height in SIZES:
        for form, made in _forms(width, height).items():
            rows.append(_row(f"image {width}x{height}", form, made, score, runs))
    picture = shrunk(_picture(*SIZES[0], 0))
    rows.append(_row(f"image {SIZES[0][0]}x{SIZES[0][1]}", "measuring alone", lambda: picture, measure, runs))
    record("scoring", rows, chosen.json, runs=runs)


def _row(what: str, form: str, made: Callable[[], object], call: Callable[..., object], runs: int) -> dict[str, object]:
    """Times of scoring something new each time, which no cache knows."""
    call(made())
    took = []
    for _ in range(runs):
        given = made()
        started = time.perf_counter()
        call(given)
        took.append(1e3 * (time.perf_counter() - started))
    return {"scored": what, "as": form, "median ms": float(np.median(took)), "fastest ms": min(took)}


def _prompt(number: int) -> str:
    """A caption that was not scored before."""
    return f"{sample_scene(6 * 10**9 + number, OBJECTS).caption}, take {number}"


def _forms(width: int, height: int) -> dict[str, Callable[[], object]]:
    """The forms in which pipelines are given images; a new picture at each call."""
    numbers = count()

    def picture() -> np.ndarray:
        return _picture(width, height, next(numbers))

    def tensor() -> torch.Tensor:
        return torch.from_numpy(picture()).permute(2, 0, 1).contiguous().float().div_(127.5).sub_(1)

    return {
        "uint8 array": picture,
        "PIL RGB": lambda: Image.fromarray(picture()),
        "PIL RGBA": lambda: Image.fromarray(picture()).convert("RGBA"),
        "float32 array in [0, 1]": lambda: picture() / np.float32(255),
        "float32 tensor in [-1, 1]": tensor,
        "bfloat16 tensor in [-1, 1]": lambda: tensor().bfloat16(),
    }


def _picture(width: int, height: int, number: int) -> np.ndarray:
    """Noise of two kinds, by number: its values do not change what is computed."""
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 200, (height // 16, width // 16, 3), dtype=np.uint8)
    fine = rng.integers(0, 56, (height, width, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR) + fine)


if __name__ == "__main__":
    main()

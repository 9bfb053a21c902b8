"""Where do the signals of a probe lie between simple and complex content, and do they tell one from the other?"""

from typing import Any

import numpy as np
import torch
from tqdm import tqdm

import tadp
from bench.model import GENERATION, demo_pipeline
from bench.record import parser, record
from tadp.demo.scenes import sample_scene
from tadp.policy.complexity import PROBE_STEPS
from tadp.runtime.signals import Averages, averages

OBJECTS = (1, 2, 3, 4, 5)


def main() -> None:
    """Probe captions of one to five objects; percentiles of each signal, and its correlation with their number."""
    options = parser(__doc__)
    options.add_argument("--captions", type=int, default=25)
    chosen = options.parse_args()
    counts = [OBJECTS[index % len(OBJECTS)] for index in range(chosen.captions)]
    found = probe(counts)
    rows = []
    for name in ("entropy", "kurtosis", "relative_change"):
        values = np.array([getattr(known, name) for known in found])
        low, middle, high = np.percentile(values, (5, 50, 95))
        correlation = float(np.corrcoef(values, counts)[0, 1])
        rows.append(
            {"signal": name, "5 %": low, "median": middle, "95 %": high, "correlation with objects": correlation}
        )
    record("signals", rows, chosen.json, captions=chosen.captions)


def probe(counts: list[int]) -> list[Averages]:
    """What two probe steps of the complexity policy measure for a caption of each number of objects."""
    pipeline = tadp.compile(demo_pipeline(), policy="complexity")
    found = []
    for seed, count in enumerate(tqdm(counts, desc="probing", unit="caption")):
        before = pipeline.tadp.clock.generation
        pipeline(
            sample_scene(5 * 10**9 + seed, count).caption,
            generator=torch.Generator().manual_seed(seed),
            callback_on_step_end=_stop_after_probe,
            **GENERATION | {"output_type": "latent"},
        )
        records = [record for record in pipeline.tadp.history if record.generation > before]
        found.append(averages([record.signals for record in records if record.signals is not None]))
    return found


def _stop_after_probe(pipeline: Any, step: int, timestep: object, tensors: dict[str, object]) -> dict[str, object]:
    """The steps are those of a whole generation, only the rest of it is left out."""
    pipeline._interrupt = step + 1 >= PROBE_STEPS
    return tensors


if __name__ == "__main__":
    main()

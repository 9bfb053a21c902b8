"""Where do the signals of a probe lie between simple and complex content, what do they cost, and how exact are they?"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

import tadp
from bench.models.model import demo_pipeline
from bench.models.probe_run import signals_of_probe
from bench.models.probing import shares_of_a_step
from bench.models.sampling import compare
from bench.models.signals_figure import draw
from bench.record import parser, record
from tadp.demo.scenes import sample_scene
from tadp.runtime.shadows import DEFAULT_BUDGET
from tadp.runtime.signals import features

OBJECTS = (1, 2, 3, 4, 5)


def main() -> None:
    """Three tables: each signal by content, sampled against exact ones, and shares of a step; and a figure."""
    options = parser(__doc__)
    options.add_argument("--captions", type=int, default=25)
    options.add_argument("--seconds", type=float, default=240.0, help="of timing forwards of a wide model")
    options.add_argument("--figure", type=Path, help="draw each signal over blocks and steps, such as docs/signals.png")
    options.add_argument("--short", action="store_true")
    chosen = options.parse_args()
    captions, seconds = (5, 30.0) if chosen.short else (chosen.captions, chosen.seconds)
    counts = [OBJECTS[index % len(OBJECTS)] for index in range(captions)]
    if chosen.figure is not None:
        draw(chosen.figure)
    off = compare([_caption(seed, count) for seed, count in enumerate(counts[:5])])
    record("sampled against exact", off, None)
    shares = shares_of_a_step(seconds, DEFAULT_BUDGET)
    record("signals", _by_content(probe(counts), counts), chosen.json, captions=captions, **_facts(off, shares))


def probe(counts: list[int]) -> list[dict[str, float]]:
    """What two probe steps of the complexity policy measure for a caption of each number of objects."""
    pipeline = tadp.compile(demo_pipeline(), policy="complexity", calibration=None)
    return [
        features(signals_of_probe(pipeline, _caption(seed, count), seed))
        for seed, count in enumerate(tqdm(counts, desc="probing", unit="caption"))
    ]


def _by_content(found: list[dict[str, float]], counts: list[int]) -> list[dict[str, object]]:
    """Percentiles of each signal over captions of one to five objects, and its correlation with their number."""
    rows: list[dict[str, object]] = []
    for name in ("entropy", "kurtosis", "relative_change"):
        values = np.array([known[name] for known in found])
        low, middle, high = np.percentile(values, (5, 50, 95))
        correlation = float(np.corrcoef(values, counts)[0, 1])
        rows.append(
            {"signal": name, "5 %": low, "median": middle, "95 %": high, "correlation with objects": correlation}
        )
    return rows


def _facts(off: list[dict[str, object]], shares: dict[str, float]) -> dict[str, object]:
    """The other two tables, in the form that results keep beside their rows."""
    facts: dict[str, object] = {
        f"sampled {row['signal']}, off": {
            column[5:]: value for column, value in row.items() if column.startswith("off")
        }
        for row in off
    }
    return facts | {"share_of_a_step": shares}


def _caption(seed: int, count: int) -> str:
    return sample_scene(5 * 10**9 + seed, count).caption


if __name__ == "__main__":
    main()

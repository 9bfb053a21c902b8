"""Tables and picture of bench.quality.pareto."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bench.quality.correlation import draws, interval, spearman
from bench.record import cell, machine, markdown, record, versions
from tadp.calibration.fit import candidates
from tadp.calibration.samples import Outcome, Sample
from tadp.complexity.score import judge
from tadp.planning.calibration import Calibration
from tadp.precision import Recipe

THIRDS = ("low", "medium", "high")
LEVELS = ("static:8", "static:8+attention", "static:6", "static:4")
BASELINE = "static:8"


@dataclass(frozen=True)
class Proof:
    """What was measured.

    Attributes:
        samples: with the outcome of every policy.
        calibration: that scores and adaptive policies come from.
        probe: the policy whose probe measured the features.
        static, adaptive: names of policies; the first of `static` is the reference.
    """

    samples: tuple[Sample, ...]
    calibration: Calibration
    probe: str
    static: tuple[str, ...]
    adaptive: tuple[str, ...]

    @cached_property
    def scores(self) -> np.ndarray:
        """The calibrated score of every sample."""
        found = [judge(candidates(s), self.calibration.ranges, self.calibration.weights) for s in self.samples]
        return np.array([0.5 if score is None else score.total for score in found])

    @cached_property
    def thirds(self) -> np.ndarray:
        """0, 1 or 2 for every sample: its third by score."""
        order = np.argsort(np.argsort(self.scores, kind="stable"), kind="stable")
        return order * len(THIRDS) // len(order)

    @property
    def prompts(self) -> np.ndarray:
        """The prompt of every sample."""
        return np.array([sample.prompt for sample in self.samples])

    def outcomes(self, policy: str) -> list[Outcome]:
        """Of every sample."""
        return [sample.outcomes[policy] for sample in self.samples]

    def psnr(self, policy: str) -> np.ndarray:
        """Of every sample, in dB."""
        return np.array([found.psnr for found in self.outcomes(policy)])

    def seconds(self, policy: str) -> np.ndarray:
        """Of every sample, from the recipes that its blocks ran at."""
        return np.array([seconds_of(found.recipes, self.calibration) for found in self.outcomes(policy)])


def seconds_of(recipes: Mapping[str, int], calibration: Calibration) -> float:
    """Seconds of a clip from how many block runs were at each recipe; a step runs each block in both branches."""
    costs = calibration.costs
    block = next(iter(costs.blocks.values()))  # the embedded model's blocks are alike
    branches = sum(recipes.values()) / (len(costs.blocks) * sum(costs.steps))
    return costs.other_seconds + sum(
        count / branches * block[Recipe.parse(recipe)].seconds for recipe, count in recipes.items()
    )


def table_of_policies(proof: Proof) -> list[dict[str, object]]:
    """A row per policy."""
    rows = []
    for policy in (*proof.static, proof.probe, *proof.adaptive):
        outcomes, psnr = proof.outcomes(policy), proof.psnr(policy)
        aligned = [found.alignment or 0.0 for found in outcomes]
        reference = [found.alignment or 0.0 for found in proof.outcomes(proof.static[0])]
        seconds = float(proof.seconds(policy).mean())
        rows.append(
            {
                "policy": policy,
                "s a clip": seconds,
                "x static:8": float(proof.seconds(BASELINE).mean()) / seconds,
                "PSNR, dB": float(psnr.mean()),
                "lowest": float(psnr.min()),
                "5 % are below": float(np.percentile(psnr, 5, method="lower")),
                "PSNR of the mean error": _psnr_of_mean_error(psnr),
                "SSIM": float(np.mean([found.ssim for found in outcomes])),
                **_where_measured("MS-SSIM", [found.ms_ssim for found in outcomes]),
                **_where_measured("LPIPS", [found.lpips for found in outcomes]),
                "temporal error": float(np.mean([found.temporal_error for found in outcomes])),
                "alignment - that of 16 bits": float(np.mean(aligned) - np.mean(reference)),
                "weights, MB": float(np.mean([found.weight_bytes or 0 for found in outcomes])) / 1e6,
            }
        )
    return rows


def _where_measured(name: str, values: Sequence[float | None]) -> dict[str, float]:
    """The mean, unless frames are too small for a measure, or its weights were not there."""
    known = [value for value in values if value is not None]
    return {name: float(np.mean(known))} if len(known) == len(values) > 0 else {}


def correlations(proof: Proof) -> list[dict[str, object]]:
    """Of the score and of each signal with the error of static levels, each with its 95 % interval.

    The second row takes the means over the seeds of every prompt: what is left of the error when noise evens out.
    """
    known = [candidates(sample) for sample in proof.samples]
    signals = {
        name: np.array([found[name] for found in known]) for name in known[0] if all(name in found for found in known)
    }
    errors = {level: -proof.psnr(level) for level in LEVELS}
    means = {level: _means(error, proof.prompts) for level, error in errors.items()}
    of_prompts = _means(proof.scores, proof.prompts)
    rows = []
    for name, values in signals.items():
        span = proof.calibration.ranges.get(name)
        rows.append(_correlation(name, abs(span.weight) if span else "", values, errors, proof.prompts))
    return [
        _correlation("calibrated score", "", proof.scores, errors, proof.prompts),
        _correlation("the same, means of prompts", "", of_prompts, means, np.arange(len(of_prompts))),
        *sorted(rows, key=lambda row: -abs(float(str(row[LEVELS[2]]).split()[0]))),
    ]


def _correlation(
    name: str, weight: object, values: np.ndarray, errors: Mapping[str, np.ndarray], clusters: np.ndarray
) -> dict[str, object]:
    row = {"predictor": name, "weight": weight}
    for level, error in errors.items():
        low, high = interval(values, error, clusters)
        row[level] = f"{spearman(values, error):+.2f} ({low:+.2f} to {high:+.2f})"
    return row


def _means(values: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The mean of each cluster."""
    members = np.unique(clusters, return_inverse=True)[1]
    return np.bincount(members, values) / np.bincount(members)


def between_seeds(proof: Proof) -> list[dict[str, object]]:
    """How much of the error is chance: how far the seeds of one prompt lie apart."""
    members = [np.flatnonzero(proof.prompts == prompt) for prompt in np.unique(proof.prompts)]
    rows = []
    for level in LEVELS:
        psnr = proof.psnr(level)
        within = np.mean(np.concatenate([(psnr[own] - psnr[own].mean()) ** 2 for own in members]))
        apart = np.median([np.ptp(psnr[own]) for own in members])
        rows.append(
            {
                "policy": level,
                "best minus worst seed, median over prompts, dB": float(apart),
                "share of the variance that is between seeds": float(within / psnr.var()),
            }
        )
    return rows


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The upper concave hull of (seconds, PSNR) points, from the fastest to the best."""
    hull: list[tuple[float, float]] = []
    for point in sorted(points):
        while hull and hull[-1][1] >= point[1] and hull[-1][0] == point[0]:
            break
        while len(hull) > 1 and _turn(hull[-2], hull[-1], point) >= 0:
            hull.pop()
        hull.append(point)
    best = max(range(len(hull)), key=lambda index: hull[index][1])
    return hull[: best + 1]


def above_the_line(proof: Proof) -> list[dict[str, object]]:
    """How far each adaptive policy is from the line between static settings, in dB and in time.

    In the mean over clips of their PSNR, and in the PSNR of their mean squared error, in which bad clips weigh more;
    intervals are over prompts.
    """
    static = [p for p in proof.static if np.isfinite(proof.psnr(p)).all()]
    time = {p: proof.seconds(p) for p in (*static, *proof.adaptive)}
    reached = {p: proof.psnr(p) for p in (*static, *proof.adaptive)}
    everything, drawn_anew = np.arange(len(proof.samples)), list(draws(proof.prompts))

    def above(policy: str, quality: Callable[[np.ndarray], float], drawn: np.ndarray) -> float:
        """Of the drawn samples."""
        line = frontier([(float(time[p][drawn].mean()), quality(reached[p][drawn])) for p in static])
        return quality(reached[policy][drawn]) - float(np.interp(time[policy][drawn].mean(), *np.array(line).T))

    rows = []
    for policy in proof.adaptive:
        seconds, psnr = float(time[policy].mean()), float(reached[policy].mean())
        others = [(float(time[p].mean()), float(reached[p].mean())) for p in static]
        equal_time = max((q for s, q in others if s <= seconds * 1.005), default=math.nan)
        equal_quality = min((s for s, q in others if q >= psnr), default=math.nan)
        row: dict[str, object] = {"policy": policy, "s a clip": seconds, "PSNR, dB": psnr}
        for name, quality in (("", _mean), (" in PSNR of the mean error", _psnr_of_mean_error)):
            low, high = np.percentile([above(policy, quality, drawn) for drawn in drawn_anew], (2.5, 97.5))
            row[f"above the line{name}, dB"] = above(policy, quality, everything)
            row[f"95 % of draws{name}"] = f"{low:+.1f} to {high:+.1f}"
        row["over the best static setting that is no slower, dB"] = psnr - equal_time
        row["faster than the fastest static setting that is no worse"] = 1 - seconds / equal_quality
        rows.append(row)
    return rows


def _mean(psnr: np.ndarray) -> float:
    return float(psnr.mean())


def _psnr_of_mean_error(psnr: np.ndarray) -> float:
    mse = float(np.mean(10 ** (-psnr / 10)))
    return -10 * math.log10(mse) if mse > 0 else math.inf


def by_third(proof: Proof) -> list[dict[str, object]]:
    """Time gained over static:8 and quality lost, by third of complexity."""
    rows = []
    for policy in proof.adaptive:
        for index, third in enumerate(THIRDS):
            own = proof.thirds == index
            seconds, base = proof.seconds(policy)[own].mean(), proof.seconds(BASELINE)[own].mean()
            ours, theirs = proof.psnr(policy)[own], proof.psnr(BASELINE)[own]
            rows.append(
                {
                    "policy": policy,
                    "complexity": third,
                    "time gained over static:8": f"{1 - seconds / base:+.0%}",
                    "PSNR, dB": float(ours.mean()),
                    "static:8": float(theirs.mean()),
                    "lowest": float(ours.min()),
                    "lowest of static:8": float(theirs.min()),
                }
            )
    return rows


def draw(proof: Proof, path: Path) -> None:
    """The Pareto picture: all contents on the left, each third on its own on the right."""
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(13, 4.8), layout="constrained")
        panels = figure.subplots(1, 4, gridspec_kw={"width_ratios": (2.2, 1, 1, 1)})
        everything = np.ones(len(proof.samples), dtype=bool)
        titles = ("all prompts", *(f"{third} complexity" for third in THIRDS))
        chosen = (everything, *(proof.thirds == index for index in range(len(THIRDS))))
        for axes, title, own in zip(panels, titles, chosen, strict=True):
            static = [p for p in (*proof.static, proof.probe) if np.isfinite(proof.psnr(p)).all()]
            points = {p: (proof.seconds(p)[own].mean(), proof.psnr(p)[own].mean()) for p in static}
            line = frontier([points[p] for p in proof.static if p in points])
            axes.plot(*np.array(line).T, color="#b8b8b8", linewidth=1, zorder=0)
            axes.scatter(*np.array(list(points.values())).T, color="#7f8c8d", label="static")
            adaptive = {p: (proof.seconds(p)[own].mean(), proof.psnr(p)[own].mean()) for p in proof.adaptive}
            axes.scatter(*np.array(list(adaptive.values())).T, color="#c0392b", marker="D", label="adaptive")
            for policy, point in (points | adaptive).items() if axes is panels[0] else ():
                axes.annotate(
                    policy.removeprefix("static:"), point, fontsize=7, xytext=(3, 4), textcoords="offset points"
                )
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("seconds a clip")
        panels[0].set_ylabel("mean PSNR against 16 bits, dB")
        panels[0].legend(frameon=False, loc="lower right")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)


def write_report(
    proof: Proof, out: Path, json: Path | None, planned: int, check: list[dict[str, object]] | None
) -> None:
    """Print all tables, and write pareto.md, pareto.png and, where a path is given, the JSON of the first table."""
    tables = {
        "Policies": table_of_policies(proof),
        "Against the line between static settings": above_the_line(proof),
        "By third of complexity": by_third(proof),
        "What predicts the error (Spearman, 95 % intervals over prompts)": correlations(proof),
        "Between seeds of one prompt": between_seeds(proof),
    }
    if check:
        tables["Whole clips on the clock"] = check
    for title, rows in tables.items():
        record(title, rows, None)
    facts = {
        "samples": len(proof.samples),
        "of planned": planned,
        "prompts": len(set(proof.prompts)),
        "calibrated_on": proof.calibration.samples,
        "score_left_out_in_calibration": proof.calibration.left_out,
    }
    if json is not None:
        record("pareto", tables["Policies"], json, **facts, **dict(tables))
    draw(proof, out / "pareto.png")
    sections = [f"## {title}\n\n{markdown(rows)}" for title, rows in tables.items()]
    (out / "pareto.md").write_text(_page(out / "pareto.md", facts, sections))


MARKER = "<!-- tables: written by python -m bench.quality.pareto, nothing below is edited by hand -->"


def _page(path: Path, facts: Mapping[str, object], sections: Sequence[str]) -> str:
    """The page with new tables under what was written by hand."""
    introduction = path.read_text().partition(MARKER)[0] if path.exists() else "# Does adapting pay?\n\n"
    host, found = machine(), versions()
    where = f"{host['cpu']}, {host['threads']} threads ({', '.join(map(str, host['isa']))}), torch {found['torch']}"
    lines = [f"{name.replace('_', ' ')}: {cell(value)}" for name, value in facts.items()]
    return (
        "\n\n".join(
            [introduction.rstrip(), MARKER, f"{where}; {', '.join(lines)}.", "![Pareto](pareto.png)", *sections]
        )
        + "\n"
    )


def _turn(first: tuple[float, float], second: tuple[float, float], third: tuple[float, float]) -> float:
    """Above 0 where three points turn left, so that the middle one lies below the line between the others."""
    return (second[0] - first[0]) * (third[1] - first[1]) - (second[1] - first[1]) * (third[0] - first[0])

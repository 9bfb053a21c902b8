"""Tables of bench.quality.pareto, from made-up samples."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.quality import pareto
from bench.quality.correlation import interval, spearman
from bench.quality.pareto_report import (
    MARKER,
    Proof,
    above_the_line,
    between_seeds,
    by_third,
    correlations,
    frontier,
    seconds_of,
    write_report,
)
from tadp.calibration.samples import Outcome, Sample
from tadp.policy import parse
from tests.calibrations import FOUND

STATIC = ("static:16", "static:8", "static:8+attention", "static:6", "static:4")
PROBE = "static:8,ends=16,probe=2"
RECIPES = {
    "static:16": "16",
    "static:8": "8",
    "static:8+attention": "8+attention:8",
    "static:6": "6",
    "static:4": "4",
    PROBE: "8",
    "adaptive": "8+attention:8",
}
ERRORS = {"static:16": 0.0, "static:8": 1.0, "static:8+attention": 2.0, "static:6": 8.0, "static:4": 99.0, PROBE: 0.9}


def _outcome(policy: str, index: int) -> Outcome:
    error = ERRORS.get(policy, 0.5)
    mse = error * 1e-5 * (1 + index)
    return Outcome(mse, 1 - mse, mse, 5.0, 0.5, {RECIPES[policy]: 6 * 20 * 2}, 2_000_000)


def _proof() -> Proof:
    samples = tuple(
        Sample(
            ", ".join(["a red circle bounces"] * (1 + index)),
            index,
            {"entropy": 0.8 - index / 100},
            {policy: _outcome(policy, index) for policy in (*STATIC, PROBE, "adaptive")},
        )
        for index in range(6)
    )
    return Proof(samples, FOUND, PROBE, STATIC, ("adaptive",))


def test_seconds_follow_from_recipes() -> None:
    costs = FOUND.costs
    expected = costs.other_seconds + sum(costs.steps) * len(costs.blocks) * 0.07
    assert seconds_of({"8": 6 * 20 * 2}, FOUND) == pytest.approx(expected)
    assert seconds_of({"8": 6 * 20}, FOUND) == pytest.approx(expected)  # a step of one branch takes the step's time


@pytest.mark.parametrize("name", [*pareto.STATIC, *pareto.ADAPTIVE])
def test_policies_are_measured_under_their_names(name: str) -> None:
    assert parse(name).key == name


def test_the_frontier_is_the_upper_hull() -> None:
    points = [(1.0, 10.0), (2.0, 30.0), (3.0, 20.0), (4.0, 40.0), (1.5, 12.0)]
    assert frontier(points) == [(1.0, 10.0), (2.0, 30.0), (4.0, 40.0)]
    assert frontier([(2.0, 5.0), (1.0, 9.0)]) == [(1.0, 9.0)]


def test_adaptive_policies_are_compared_with_the_line_between_static_ones() -> None:
    (row,) = above_the_line(_proof())
    assert row["above the line, dB"] == pytest.approx(10 * math.log10(2.0 / 0.5), abs=1e-6)
    assert row["above the line in PSNR of the mean error, dB"] == pytest.approx(10 * math.log10(2.0 / 0.5), abs=1e-6)
    assert row["over the best static setting that is no slower, dB"] == pytest.approx(10 * math.log10(4), abs=1e-6)


def test_more_seeds_of_the_same_prompts_narrow_no_interval() -> None:
    proof = _proof()
    samples = tuple(
        replace(s, outcomes={**s.outcomes, "adaptive": Outcome(1e-5, 1, 0, 5, 0.5, {"8": 240})}) for s in proof.samples
    )
    once = replace(proof, samples=samples)
    thrice = replace(proof, samples=tuple(replace(s, seed=seed) for seed in range(3) for s in samples))
    (one,), (three,) = above_the_line(once), above_the_line(thrice)
    low, high = str(one["95 % of draws"]).split(" to ")
    assert float(low) < float(high)
    assert three["95 % of draws"] == one["95 % of draws"]


def test_thirds_are_by_score() -> None:
    proof = _proof()
    assert proof.thirds.tolist() == [0, 0, 1, 1, 2, 2]
    rows = by_third(proof)
    assert [row["complexity"] for row in rows] == ["low", "medium", "high"]
    assert all(row["lowest"] > row["lowest of static:8"] for row in rows)  # type: ignore[operator]


def test_the_score_comes_first_among_what_predicts() -> None:
    first, of_prompts, *others = correlations(_proof())
    assert first["predictor"] == "calibrated score"
    assert of_prompts["static:6"] == first["static:6"]  # every prompt has one seed
    assert str(first["static:6"]).startswith("+1.00")
    assert {"text.entity", "entropy"} <= {row["predictor"] for row in others}


def test_seeds_that_differ_as_prompts_do_not_are_all_of_the_variance() -> None:
    seeds = tuple(
        Sample(prompt, seed, {}, {policy: _outcome(policy, seed) for policy in (*STATIC, PROBE, "adaptive")})
        for prompt in ("a", "b")
        for seed in (0, 9)
    )
    for row in between_seeds(replace(_proof(), samples=seeds)):
        assert row["best minus worst seed, median over prompts, dB"] == pytest.approx(10)
        assert row["share of the variance that is between seeds"] == pytest.approx(1)
    for row in between_seeds(_proof()):
        assert row["share of the variance that is between seeds"] == 0  # every prompt has one seed


def test_intervals_draw_whole_clusters() -> None:
    generator = np.random.default_rng(0)
    values = generator.standard_normal(40)
    noisy = values + generator.standard_normal(40)
    low, high = interval(values, noisy, np.arange(40))
    assert low < spearman(values, noisy) < high
    repeated = np.repeat(np.arange(40), 25)
    wide = interval(values[repeated], noisy[repeated], repeated)
    assert wide == pytest.approx((low, high), abs=0.05)


def test_the_page_keeps_what_was_written_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "pareto.md"
    page.write_text(f"# Title\n\nWritten by hand.\n\n{MARKER}\n\nold tables\n")
    write_report(_proof(), tmp_path, tmp_path / "pareto.json", planned=10, check=None)
    text = page.read_text()
    assert "Written by hand." in text
    assert "old tables" not in text
    assert "samples: 6, of planned: 10" in text
    assert text.count("| policy |") == 4
    assert (tmp_path / "pareto.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "pareto.json").exists()

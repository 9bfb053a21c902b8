"""The run's figures and its picture: every mix of levels is drawn, and missing signals or records leave no gap."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tadp.complexity.text import TextScore
from tadp.policy import Fixed, Policy
from tadp.precision import L8, L16, Level, Plan, Recipe, Role
from tadp.report.document import describe_run
from tadp.report.plot import LEVEL_COLORS, draw_plan
from tadp.report.run import Observed, Run, block_signals, recipe_levels
from tadp.report.table import format_bytes, format_levels, shorten
from tests.fakes import BLOCKS, FakeController

MIXED = Fixed(Plan.of({block: Recipe(L8, ((Role.FFN_DOWN, L16),)) for block in BLOCKS}))
TEXT = TextScore(entity=0.1, spatial=0.2, temporal=0.3, total=0.2, evidence={})
CLIP = np.zeros((1, 8, 8, 3), np.float32)


def make_run(*modules: str, policy: str | Policy = "static:8,ends=16") -> Run:
    """A run of 4 steps, which several transformers share one after the other, as in Wan2.2."""
    observed = {}
    for position, module in enumerate(modules):
        controller = FakeController()
        controller.use(policy)
        controller.run(steps=4, noise=1000.0 - 100 * position)
        observed[module] = Observed(tuple(controller.history), controller.score, controller.plan, 10)
    return Run(str(policy), CLIP, 1.0, observed)


def colors_of(path: Path) -> set[str]:
    with Image.open(path) as picture:
        counts = picture.convert("RGB").getcolors(maxcolors=1 << 24)
    assert counts is not None
    return {"#{:02x}{:02x}{:02x}".format(*color) for count, color in counts if count > 50}


def test_levels_of_a_plan_are_drawn_in_their_colours(tmp_path: Path) -> None:
    path = tmp_path / "plan.png"
    draw_plan(path, "a red circle", make_run("transformer"), TEXT, thresholds=(0.3, 0.7))
    colors = colors_of(path)
    assert {LEVEL_COLORS["16"], LEVEL_COLORS["8"]} <= colors
    assert LEVEL_COLORS["4"] not in colors
    assert [file.name for file in tmp_path.iterdir()] == ["plan.png"]


def test_a_run_without_records_is_drawn_too(tmp_path: Path) -> None:
    run = Run("static:8", CLIP, 1.0, {"transformer": Observed((), None, Plan(), 0)})
    draw_plan(tmp_path / "plan.png", "", run, TEXT)
    assert (tmp_path / "plan.png").stat().st_size > 0
    assert run.seconds_per_step() is None
    assert run.levels() == {}


def test_two_transformers_share_a_picture_under_their_names(tmp_path: Path) -> None:
    run = make_run("transformer", "transformer_2")
    draw_plan(tmp_path / "plan.png", "a red circle", run, TEXT)
    assert run.piece_name("transformer_2", "blocks.0") == "transformer_2/blocks.0"
    assert run.weight_bytes == 20
    steps = [(module, step) for module, step, record in run.records() if record.branch == "cond"]
    assert steps == [("transformer", n) for n in range(1, 5)] + [("transformer_2", n) for n in range(5, 9)]


def test_signals_are_means_over_branches_and_the_highest_layer() -> None:
    signals = block_signals(make_run("transformer"))
    assert list(signals) == [1, 2]
    shared = {"entropy": 1.1, "kurtosis": 4.1, "relative change": 0.55, "quantization error": 0.022}
    assert signals[1]["blocks.1"] == pytest.approx(shared | {"shadow error": 0.044})
    assert set(signals[1]["blocks.2"]) == set(shared)


def test_signals_are_written_by_layer_width_and_recipe() -> None:
    written = describe_run(make_run("transformer"), {}, {})["history"][0]["signals"]["blocks"][1]
    assert {width: written[f"quantization_error:{width}"]["ffn.up"] for width in (8, 4)} == {
        8: [pytest.approx(0.011)],
        4: [0.2],
    }
    assert [written["shadow_error:6"], written["shadow_error:16"]] == [[pytest.approx(0.044)], [pytest.approx(0.033)]]
    assert "relative_change_delta" not in written


def test_plans_are_written_with_their_overrides() -> None:
    written = describe_run(make_run("transformer", policy=MIXED), {}, {})
    assert written["plan"]["blocks.1"] == {"default": "8", "overrides": {"ffn.down": "16"}, "reuse": None}
    assert written["plans"][written["history"][0]["plan"]]["blocks.0"] == "8+ffn.down:16"


def test_levels_count_pieces_in_steps() -> None:
    # 4 steps of 2 branches, 3 blocks.
    assert make_run("transformer").levels() == {"16": 16, "8": 8}
    assert make_run("transformer", policy=MIXED).levels() == {"8+16": 24}
    assert recipe_levels(Recipe(L16, ((Role.ATTENTION, L16), (Role.FFN_UP, L8)))) == (L16, L8)
    assert recipe_levels(Recipe(Level.parse("w8a16"))) == (Level(8, 16),)


def test_words_of_the_table() -> None:
    assert shorten("a  red\ncircle") == "a red circle"
    assert len(shorten("word " * 100, 20)) <= 20
    assert format_levels({"8": 3, "16": 1}) == "8:75% 16:25%"
    assert [format_bytes(size) for size in (0, 999, 5_180_000, 2_500_000_000)] == ["0 B", "999 B", "5.18 MB", "2.5 GB"]


def test_seconds_measured_from_outside_go_before_the_recorded_ones() -> None:
    run = make_run("transformer")
    assert run.seconds_per_step() == pytest.approx(0.05)  # 0.02, 0.04, 0.06 and 0.08 s over both branches
    assert dataclasses.replace(run, timed_steps=(1.0, 3.0, 2.0)).seconds_per_step() == 2.0

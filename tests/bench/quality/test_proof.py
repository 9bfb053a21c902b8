"""The proof: its settings, caches around compiled blocks, mixes of rivals, and its page, from made-up clips."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig, MagCacheConfig, TaylorSeerCacheConfig

from bench.quality.proof import analysis
from bench.quality.proof.analysis import best_mix, decibels, of_mean_error, read, tail
from bench.quality.proof.caches import cached, with_magnitudes
from bench.quality.proof.clips import Clip, ClipFile, contents
from bench.quality.proof.report import MARKER, write_report
from bench.quality.proof.settings import ALL, BASELINE, REFERENCE, Setting
from tadp.policy import parse
from tests.models import tiny_inputs, tiny_transformer

SETTINGS = (
    Setting(REFERENCE),
    Setting(BASELINE),
    Setting("static:8+attention"),
    Setting("complexity", kind="tadp"),
)
ERRORS = {REFERENCE: 0.0, BASELINE: 1e-4, "static:8+attention": 2e-4, "complexity": 1e-5}
SECONDS = {REFERENCE: 6.0, BASELINE: 5.0, "static:8+attention": 2.0, "complexity": 3.0}


def _clip(setting: str, index: int, speed: float = 1.0) -> Clip:
    mse = ERRORS.get(setting, 1e-3) * (1 + index)
    seconds = SECONDS.get(setting, 4.0) * speed
    score = index / 10 if setting.startswith("complexity") else None
    return Clip(setting, f"prompt {index}", index, mse, 1.0, mse, 0.5, seconds, seconds - 1, 1.0, score)


def _file(path: Path, settings: tuple[Setting, ...], contents: range, speed: float = 1.0) -> Path:
    rows = [json.dumps(asdict(_clip(one.name, index, speed))) for index in contents for one in settings]
    path.write_text("\n".join(["{}", *rows]) + "\n")
    return path


def test_settings_have_policies_and_names_of_their_own() -> None:
    assert len({setting.name for setting in ALL}) == len(ALL)
    for setting in ALL:
        parse(setting.policy)
    kinds = {type(setting.cache) for setting in ALL if setting.cache is not None}
    assert kinds == {FirstBlockCacheConfig, MagCacheConfig, TaylorSeerCacheConfig}


def test_prompts_come_before_the_next_seed() -> None:
    found = contents(6, 2)
    assert [seed for _, seed in found] == [*range(6), *range(1000, 1006)]
    assert [prompt for prompt, _ in found[:6]] == [prompt for prompt, _ in found[6:]]
    assert len({prompt for prompt, _ in found}) == 6


@pytest.mark.parametrize("bound", [-1.0, 1e9], ids=["never", "always"])
def test_a_cache_stands_around_blocks_and_goes_again(bound: float) -> None:
    model = tiny_transformer().eval()
    blocks = model.blocks
    with torch.no_grad():
        plain = model(**tiny_inputs())[0]
        with cached(model, FirstBlockCacheConfig(threshold=bound)) as shells, model.cache_context("cond"):
            first = model(**tiny_inputs())[0]
            second = model(**tiny_inputs())[0]
        after = model(**tiny_inputs())[0]
    assert model.blocks is blocks
    assert torch.equal(plain, first)
    assert torch.equal(plain, after)
    runs = [shell.runs for shell in shells]
    assert runs == ([2] * len(runs) if bound < 0 else [2, *[1] * (len(runs) - 1)])
    assert torch.allclose(plain, second, rtol=0.05, atol=0.05)


def test_only_one_cache_takes_magnitudes() -> None:
    config = MagCacheConfig(num_inference_steps=3, mag_ratios=[1.0, 1.0, 1.0])
    found = with_magnitudes(config, [1.0, 0.9, 0.8])
    assert isinstance(found, MagCacheConfig)
    assert found.mag_ratios.tolist() == pytest.approx([1.0, 0.9, 0.8])
    other = FirstBlockCacheConfig(threshold=0.1)
    assert with_magnitudes(other, [1.0]) is other


def test_a_file_knows_what_it_lacks(tmp_path: Path) -> None:
    file = ClipFile(tmp_path / "clips.jsonl", {"machine": "this"})
    file.add(_clip(REFERENCE, 0))
    again = ClipFile(tmp_path / "clips.jsonl", {"machine": "this"})
    assert [one.name for one in again.missing(("prompt 0", 0), SETTINGS)] == [one.name for one in SETTINGS[1:]]
    assert len(again.missing(("prompt 1", 1), SETTINGS)) == len(SETTINGS)
    with pytest.raises(ValueError, match="another model, version or request"):
        ClipFile(tmp_path / "clips.jsonl", {"machine": "other"})


def test_times_are_compared_within_a_file(tmp_path: Path) -> None:
    paths = [_file(tmp_path / "a.jsonl", SETTINGS, range(3)), _file(tmp_path / "b.jsonl", SETTINGS, range(3, 6), 7.0)]
    found = read(paths, SETTINGS)
    assert found.seconds["complexity"] == pytest.approx([0.6] * 6)
    assert found.thirds.tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="no content"):
        read(paths, ALL)


def test_a_mix_runs_either_rival_for_a_share_of_the_contents(tmp_path: Path) -> None:
    found = read([_file(tmp_path / "a.jsonl", SETTINGS, range(4))], SETTINGS)
    everything = np.arange(4)
    seconds = (0.4 + 1.2) / 2  # halfway between 8-bit attention and 16 bits
    reached, mix = best_mix(found, seconds, of_mean_error, everything)
    assert mix == "50% static:8+attention, 50% static:16"
    assert reached == pytest.approx(of_mean_error(found.mse["static:8+attention"]) + 10 * math.log10(2))
    assert best_mix(found, 0.3, tail, everything) == (-math.inf, "")


def test_the_tail_is_what_the_worst_clips_lie_below() -> None:
    mse = np.logspace(-6, -2, 100)
    assert tail(mse) == pytest.approx(float(np.sort(decibels(mse))[4]))
    weights = np.where(mse == mse.max(), 100.0, 1.0)
    assert tail(mse, weights) == pytest.approx(20.0)
    assert decibels(np.zeros(1))[0] == -10 * math.log10(analysis.LEAST_ERROR)


def test_the_page_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    (tmp_path / "proof.md").write_text(f"# Words\n\n{MARKER}\n\nold tables\n")
    clips = _file(tmp_path / "clips.jsonl", ALL, range(5))
    write_report([clips], tmp_path, tmp_path / "proof.json", planned=144)
    page = (tmp_path / "proof.md").read_text()
    assert page.startswith("# Words\n")
    assert "old tables" not in page
    assert "contents: 5, of planned: 144" in page
    assert (tmp_path / "proof.png").stat().st_size > 10_000
    assert len(json.loads((tmp_path / "proof.json").read_text())["rows"]) == len(ALL)

"""Recorded samplings and the lessons in them, with samplings whose end is known and with a tiny teacher."""

import itertools
import math
from pathlib import Path

import pytest
import torch

from tadp.demo.architecture import LATENT_CHANNELS
from tadp.demo.trajectories import (
    LEVELS,
    SHARD,
    SUBSTEPS,
    Teacher,
    caption_of,
    fine_levels,
    lessons,
    record,
    sample_states,
    shard_path,
    ways,
)
from tadp.sampling import RCMScheduler

SHAPE = (2, 3, 2, 4, 4)


def test_the_teachers_levels_meet_the_students() -> None:
    levels = fine_levels()
    assert tuple(len(step) - 1 for step in levels) == SUBSTEPS
    assert [step[0] for step in levels] + [levels[-1][-1]] == list(LEVELS)
    flat = [levels[0][0]] + [level for step in levels for level in step[1:]]
    assert all(high > low for high, low in itertools.pairwise(flat))
    # Before the shift by three, no step is more than one and a half times as wide as another.
    even = [level / (3 - 2 * level) for level in flat]
    widths = [high - low for high, low in itertools.pairwise(even)]
    assert max(widths) < 1.5 * min(widths)


def test_a_straight_flow_is_followed_exactly() -> None:
    clean, noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    velocity = LEVELS[0] * noise - clean  # from clean at level 0, in units of the first level
    states = sample_states(noise, lambda *_: velocity / LEVELS[0], fine_levels())
    for index, level in enumerate(LEVELS[1:], start=1):
        expected = clean + level / LEVELS[0] * velocity
        torch.testing.assert_close(states[:, index], expected, rtol=0, atol=1e-13)


def test_the_rule_is_of_second_order() -> None:
    # x' = x has the solution x(s) = x(s0) exp(s - s0).
    noise = torch.ones(1, 1, dtype=torch.float64)
    errors = []
    for refinement in (4, 8, 16):
        levels = [
            [high + (low - high) * part / refinement for part in range(refinement + 1)]
            for high, low in itertools.pairwise(LEVELS)
        ]
        end = sample_states(noise, lambda state, _: state, levels)[0, -1].item()
        errors.append(abs(end - LEVELS[0] * math.exp(-LEVELS[0])))
    # Second order divides the error by four at each halving; first order by two.
    assert errors[0] / errors[1] > 3
    assert errors[1] / errors[2] > 3


def test_the_students_sampler_follows_the_ways_through_the_states() -> None:
    states = torch.randn(2, len(LEVELS), *SHAPE[1:], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lesson = ways(states)
    scheduler = RCMScheduler(stochastic=False)
    scheduler.set_timesteps(len(LEVELS) - 1)
    for index, timestep in enumerate(scheduler.timesteps):
        state = scheduler.step(lesson[:, index], timestep, states[:, index]).prev_sample
        torch.testing.assert_close(state, states[:, index + 1], rtol=0, atol=1e-12)


def test_every_second_caption_is_of_one_object() -> None:
    captions = [caption_of(seed) for seed in range(40)]
    assert len(set(captions)) > 35
    assert not any(" and " in caption for caption in captions[1::2])
    assert any(" and " in caption for caption in captions[::2])


def test_recording_goes_on_where_it_stopped_and_repeats_itself(teacher: Teacher, tmp_path: Path) -> None:
    record(tmp_path, teacher, 32, range(1), torch.device("cpu"))
    first = shard_path(tmp_path, 32, 0).read_bytes()
    shard_path(tmp_path, 32, 0).write_bytes(b"kept")
    record(tmp_path, teacher, 32, range(2), torch.device("cpu"))
    assert shard_path(tmp_path, 32, 0).read_bytes() == b"kept"
    assert shard_path(tmp_path, 32, 1).exists()
    shard_path(tmp_path, 32, 0).unlink()
    record(tmp_path, teacher, 32, range(2), torch.device("cpu"))
    assert shard_path(tmp_path, 32, 0).read_bytes() == first


def test_an_epoch_has_every_lesson_once(teacher: Teacher, tmp_path: Path) -> None:
    record(tmp_path, teacher, 32, range(1), torch.device("cpu"))
    count = SHARD * (len(LEVELS) - 1)
    batches = list(itertools.islice(lessons(tmp_path, 32, 4, seed=0), count // 4))
    captions = [caption for _, _, _, captions in batches for caption in captions]
    levels = torch.cat([level for _, level, _, _ in batches]).tolist()
    seen = set(zip(captions, levels, strict=True))
    assert len(seen) == count
    assert {caption for caption, _ in seen} == {caption_of(seed) for seed in range(SHARD)}
    assert all(state.shape == way.shape == (4, LATENT_CHANNELS, 5, 8, 8) for state, _, way, _ in batches)


def test_lessons_without_recordings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no trajectories of 32x32"):
        next(lessons(tmp_path, 32, 4, seed=0))

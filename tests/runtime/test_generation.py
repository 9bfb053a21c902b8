"""What is known of a generation, forward by forward."""

import pytest
import torch

from tadp.policy import Complexity, parse
from tadp.runtime.clock import Tick
from tadp.runtime.generation import Generation
from tadp.runtime.signals import BlockSignals, Signals

CHANGED = Signals((BlockSignals("blocks.0", {("relative_change", ""): (0.5,)}),))
CHANGED_MORE = Signals((BlockSignals("blocks.0", {("relative_change", ""): (0.75,)}),))


def test_noise_is_a_share_of_the_first_timestep() -> None:
    generation = Generation(1)
    left = []
    for step, timestep in enumerate((800.0, 400.0, 0.0), start=1):
        generation.follow(Tick(1, step, "cond", timestep))
        left.append(generation.noise)
    assert left == [1.0, 0.5, 0.0]
    assert generation.stage((0.8, 0.2)) == 2


def test_without_timesteps_steps_tell_the_noise() -> None:
    generation = Generation(1, num_steps=4)
    generation.follow(Tick(1, 3, "cond", None))
    assert generation.noise == 0.5
    assert generation.stage((0.8, 0.2)) == 1


def test_changes_are_told_from_the_step_before_in_the_same_branch() -> None:
    generation = Generation(1)
    first = generation.take(CHANGED, Tick(1, 1, "cond", 1.0), None)
    other = generation.take(CHANGED_MORE, Tick(1, 1, "uncond", 1.0), None)
    second = generation.take(CHANGED_MORE, Tick(1, 2, "cond", 0.9), None)
    late = generation.take(CHANGED, Tick(1, 4, "cond", 0.7), None)
    assert [taken.blocks[0]["relative_change_delta"] for taken in (first, other, second, late)] == [(), (), (0.25,), ()]
    assert generation.probed_steps == {1, 2, 4}


@pytest.mark.parametrize(
    ("branch", "step", "shape"), [("cond", 1, (1, 8)), ("uncond", 2, (1, 8)), ("uncond", 1, (2, 8))]
)
def test_only_two_branches_of_one_step_are_a_pair(branch: str, step: int, shape: tuple[int, int]) -> None:
    generation = Generation(1)
    prediction = torch.randn(1, 8, generator=torch.Generator().manual_seed(0))
    generation.take(CHANGED, Tick(1, 1, "cond", 1.0), prediction)
    assert not generation.take(CHANGED, Tick(1, step, branch, 1.0), torch.ones(shape)).guidance


def test_a_pair_does_not_see_what_was_written_over_its_first_prediction() -> None:
    prediction = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for reused in (False, True):
        generation, first = Generation(1), prediction.clone()
        assert not generation.take(CHANGED, Tick(1, 1, "cond", 1.0), first).guidance
        if reused:
            first.zero_()
        found.append(generation.take(CHANGED, Tick(1, 1, "uncond", 1.0), prediction * 0.9).guidance)
    assert found[0] == found[1] != {}


def test_a_generation_of_which_nothing_is_known_has_no_score() -> None:
    assert Generation(1).judge(("blocks.0", "blocks.1", "blocks.2"), Complexity()) is None


def test_the_most_complex_prompt_counts() -> None:
    prompts = ("a dog", "a red dog chases three blue cats around a table while it rains")
    both = Generation(1, prompts).judge((), Complexity())
    assert both == Generation(1, prompts[1:]).judge((), Complexity())
    assert both != Generation(1, prompts[:1]).judge((), Complexity())


@pytest.mark.parametrize(
    ("steps", "measured"), [(None, 2), (1, 0), (2, 0), (3, 0), (4, 1), (7, 1), (8, 2), (50, 2)], ids=str
)
def test_few_steps_are_probed_less(steps: int | None, measured: int) -> None:
    generation = Generation(1, num_steps=steps)
    count = 0
    while generation.probes(count + 1, Complexity()):
        count += 1
        generation.take(CHANGED, Tick(1, count, "cond", 1.0), None)
    assert count == measured


def test_a_probe_that_was_asked_for_by_name_is_as_long_as_asked_for() -> None:
    assert Generation(1, num_steps=3).probes(2, parse("static:8,probe=2"))

from tadp.runtime.clock import Clock


def _ticks(clock: Clock, timesteps: list[float | None]) -> list[tuple[int, int, str]]:
    return [(tick.generation, tick.step, tick.branch) for tick in map(clock.tick, timesteps)]


def test_equal_timesteps_are_guidance_branches_of_one_step() -> None:
    assert _ticks(Clock(), [900, 900, 500, 500]) == [
        (1, 1, "cond"),
        (1, 1, "uncond"),
        (1, 2, "cond"),
        (1, 2, "uncond"),
    ]


def test_a_larger_timestep_begins_a_generation() -> None:
    assert _ticks(Clock(), [900, 500, 900]) == [(1, 1, "cond"), (1, 2, "cond"), (2, 1, "cond")]


def test_rising_timesteps_are_steps_too_once_a_generation_was_announced() -> None:
    clock = Clock()
    clock.begin()
    assert _ticks(clock, [0.0, 0.0, 0.1, 0.2]) == [(1, 1, "cond"), (1, 1, "uncond"), (1, 2, "cond"), (1, 3, "cond")]
    assert _ticks(clock, [0.0]) == [(2, 1, "cond")]


def test_begin_makes_the_next_forward_a_first_step_even_at_the_same_timestep() -> None:
    clock = Clock()
    _ticks(clock, [900])
    clock.begin()
    assert _ticks(clock, [900]) == [(2, 1, "cond")]


def test_without_timesteps_every_call_is_a_step() -> None:
    assert _ticks(Clock(), [None, None]) == [(1, 1, "cond"), (1, 2, "cond")]


def test_a_pipeline_names_the_branch() -> None:
    clock = Clock()
    clock.announce("uncond", 0)
    assert clock.tick(900).branch == "uncond"
    clock.announce("cond", 0)
    assert clock.tick(900).branch == "cond"


def test_a_repeated_branch_is_numbered() -> None:
    clock = Clock()
    clock.announce("cond", 0)
    assert [clock.tick(900).branch for _ in range(2)] == ["cond", "cond#2"]


def test_a_model_that_joins_in_the_middle_counts_from_its_own_first_step() -> None:
    clock = Clock()
    clock.announce("cond", 12)
    tick = clock.tick(300)
    assert (tick.generation, tick.step) == (1, 1)

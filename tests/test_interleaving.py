from tadp.interleaving import medians, timed


def test_all_take_part_in_every_round() -> None:
    calls: list[str] = []
    times = medians({name: lambda name=name: calls.append(name) for name in "ab"}, 0.0, least=5)
    assert set(times) == {"a", "b"}
    assert calls.count("a") == calls.count("b") == 6  # once more, before anything is counted


def test_what_is_slow_is_timed_once() -> None:
    seconds = {"fast": 0.01, "slow": 1.0}
    calls: list[str] = []
    candidates = {name: lambda name=name: calls.append(name) for name in seconds}

    def timer(call: object) -> float:
        call()  # type: ignore[operator]
        return seconds[calls[-1]]

    assert medians(candidates, 0.0, timer=timer, least=3) == seconds
    assert (calls.count("fast"), calls.count("slow")) == (4, 2)
    calls.clear()
    medians(candidates, 0.0, timer=timer, least=3, slow=None)
    assert calls.count("slow") == 4


def test_medians_of_what_a_timer_says() -> None:
    taken = iter([1.0, 9.0, 2.0])
    assert medians({"only": lambda: None}, 0.0, timer=lambda call: next(taken), least=3, slow=None) == {"only": 2.0}


def test_seconds_of_a_call_are_positive() -> None:
    assert timed(lambda: sum(range(1000))) > 0

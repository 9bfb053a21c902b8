import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tadp.complexity.score import (
    DEFAULT_RANGES,
    FeatureRange,
    Score,
    ScoreWeights,
    combine,
    default_weights,
    judge,
    part_of,
    place,
)

unit = st.floats(0.0, 1.0)
weight = st.floats(0.0, 1e6)
maybe = st.none() | unit
reading = st.floats(-1e3, 1e6)


@st.composite
def score_weights(draw: st.DrawFn) -> ScoreWeights:
    values = draw(st.tuples(weight, weight, weight))
    assume(any(values))
    return ScoreWeights(*values)


def test_the_default_is_the_text_to_video_formula() -> None:
    score = combine(text=0.5, image=0.9, feature=0.25)
    assert score.total == pytest.approx(0.6 * 0.5 + 0.4 * 0.25)
    assert (score.text, score.image, score.feature) == (0.5, 0.9, 0.25)


def test_the_task_follows_from_the_image() -> None:
    assert default_weights(None) == ScoreWeights(0.6, 0.0, 0.4)
    assert default_weights(0.0) == ScoreWeights(0.3, 0.3, 0.4)


def test_missing_parts_hand_their_weight_on() -> None:
    assert combine(text=0.5) == Score(0.5, text=0.5)
    assert combine(feature=0.25).total == pytest.approx(0.25)
    assert combine(ScoreWeights(1, 1, 2), image=0.4, feature=0.1).total == pytest.approx((0.4 + 2 * 0.1) / 3)


@settings(deadline=None)
@given(score_weights(), maybe, maybe, maybe)
def test_the_total_lies_between_the_parts_that_weigh(
    weights: ScoreWeights, text: float | None, image: float | None, feature: float | None
) -> None:
    parts = [
        value
        for value, share in ((text, weights.text), (image, weights.image), (feature, weights.feature))
        if value is not None and share > 0
    ]
    if not parts:
        with pytest.raises(ValueError, match="no part"):
            combine(weights, text, image, feature)
        return
    total = combine(weights, text, image, feature).total
    assert min(parts) - 1e-12 <= total <= max(parts) + 1e-12
    assert 0.0 <= total <= 1.0


@settings(deadline=None)
@given(score_weights(), unit, unit, unit, unit)
def test_the_total_never_falls_when_a_part_rises(
    weights: ScoreWeights, text: float, image: float, feature: float, more: float
) -> None:
    base = combine(weights, text, image, feature).total
    assert combine(weights, max(text, more), image, feature).total >= base - 1e-12
    assert combine(weights, text, max(image, more), feature).total >= base - 1e-12
    assert combine(weights, text, image, max(feature, more)).total >= base - 1e-12


@settings(deadline=None)
@given(score_weights(), unit, unit, st.floats(0.01, 100))
def test_only_the_ratios_of_weights_matter(weights: ScoreWeights, text: float, feature: float, factor: float) -> None:
    assume(weights.text + weights.feature > 1e-6)
    scaled = ScoreWeights(weights.text * factor, weights.image * factor, weights.feature * factor)
    same = combine(weights, text, feature=feature).total
    assert combine(scaled, text, feature=feature).total == pytest.approx(same, abs=1e-9)


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_bad_weights_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="'image'"):
        ScoreWeights(image=bad)


def test_weights_may_not_all_be_zero() -> None:
    with pytest.raises(ValueError, match="above 0"):
        ScoreWeights(0, 0, 0)


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_parts_outside_0_to_1_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="feature part"):
        combine(text=0.5, feature=bad)


def test_nothing_to_combine_is_refused() -> None:
    with pytest.raises(ValueError, match="no part"):
        combine()


SIGNALS = ("entropy", "kurtosis", "relative_change")
some_signals = st.dictionaries(st.sampled_from(SIGNALS), reading, min_size=1)


@settings(deadline=None)
@given(some_signals)
def test_features_stay_within_bounds(signals: dict[str, float]) -> None:
    found = place(signals)
    assert found is not None
    assert 0.0 <= found <= 1.0


@settings(deadline=None)
@given(some_signals, st.sampled_from(SIGNALS), reading)
def test_features_follow_the_signs_of_their_weights(signals: dict[str, float], name: str, other: float) -> None:
    value = signals.setdefault(name, 1.0)
    simpler = max(value, other) if DEFAULT_RANGES[name].weight < 0 else min(value, other)
    assert place(signals | {name: simpler}) <= place(signals) + 1e-12  # type: ignore[operator]


def test_the_ends_of_the_ranges_are_0_and_1() -> None:
    spans = {name: DEFAULT_RANGES[name] for name in SIGNALS}
    calm = {name: span.high if span.weight < 0 else span.low for name, span in spans.items()}
    busy = {name: span.low if span.weight < 0 else span.high for name, span in spans.items()}
    assert place(calm) == pytest.approx(0.0, abs=1e-12)
    assert place(busy) == pytest.approx(1.0, abs=1e-12)
    assert place({"kurtosis": math.inf}) == 0.0


def test_features_without_a_range_do_not_count() -> None:
    assert place({"entropy": 0.7}) == place({"entropy": 0.7, "skewness": 3.0}) == DEFAULT_RANGES["entropy"].place(0.7)
    assert place({"skewness": 3.0}) is None


def test_missing_signals_are_left_out() -> None:
    entropy, change = DEFAULT_RANGES["entropy"].place(0.6), DEFAULT_RANGES["relative_change"].place(0.1)
    assert place({"entropy": 0.6, "relative_change": 0.1}) == pytest.approx((0.5 * entropy + 0.1 * change) / 0.6)


@pytest.mark.parametrize(
    ("feature", "part"),
    [("text.entity", "text"), ("image.edges", "image"), ("entropy", "feature"), ("shadow_error:4", "feature")],
)
def test_features_belong_to_a_part(feature: str, part: str) -> None:
    assert part_of(feature) == part


def test_content_is_judged_by_its_parts() -> None:
    score = judge({"text.total": 0.5, "image.total": 0.1, "entropy": 0.75})
    assert score == Score(0.6 * 0.5 + 0.4 * 0.5, text=0.5, image=0.1, feature=pytest.approx(0.5))


def test_what_does_not_weigh_is_not_judged() -> None:
    assert judge({}) is None
    assert judge({"image.total": 0.5}) is None  # text-to-video
    assert judge({"text.total": 0.5}, weights=ScoreWeights(0, 0, 1)) is None


def test_ranges_may_take_a_text_apart() -> None:
    ranges = {"text.entity": FeatureRange(0.2, 0.6, weight=1.0), "text.spatial": FeatureRange(0.0, 1.0, weight=0.0)}
    score = judge({"text.entity": 0.4, "text.spatial": 1.0, "text.total": 0.9}, ranges)
    assert score == Score(pytest.approx(0.5), text=pytest.approx(0.5))


@pytest.mark.parametrize(
    "span", [(1.0, 1.0, 0.5), (2.0, 1.0, 0.5), (math.nan, 1.0, 0.5), (0.0, 1.0, math.inf), (0.0, 1.0, 0.5, True)]
)
def test_bad_ranges_are_refused(span: tuple) -> None:
    with pytest.raises(ValueError, match="feature range"):
        FeatureRange(*span)


def test_a_nan_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        place({"entropy": math.nan})

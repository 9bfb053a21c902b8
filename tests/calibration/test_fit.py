import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadp.calibration.fit import FEWEST, candidates, fit
from tadp.calibration.samples import Sample
from tadp.complexity.score import judge


def _contents(count: int, seed: int = 0) -> tuple[list[dict[str, float]], np.ndarray]:
    """Errors that rise with the text's entities and fall with the entropy; a third feature is noise."""
    generator = np.random.default_rng(seed)
    known = [{"text.entity": a, "entropy": b, "kurtosis": c} for a, b, c in generator.uniform(size=(count, 3)).tolist()]
    errors = np.array([2 * found["text.entity"] - found["entropy"] for found in known])
    return known, errors + 0.05 * generator.standard_normal(count)


def test_signs_and_weights_are_found() -> None:
    features, errors = _contents(60)
    found = fit(features, errors.tolist())
    assert found.ranges["entropy"].weight < 0 < found.ranges["text.entity"].weight
    assert found.weights.text == pytest.approx(2 / 3, abs=0.1)
    assert "kurtosis" not in found.ranges
    assert abs(found.correlations["kurtosis"]) < 0.3
    assert found.left_out > 0.9
    assert found.correlations["entropy"] < -0.2


def test_noise_does_not_predict_what_was_left_out() -> None:
    generator = np.random.default_rng(1)
    features = [{"entropy": value} for value in generator.uniform(size=40).tolist()]
    assert fit(features, generator.uniform(size=40).tolist()).left_out < 0.4


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_scores_rise_with_what_errors_rise_with(seed: int, entity: float, entropy: float, more: float) -> None:
    found = fit(*map(list, _contents(20, seed)))  # type: ignore[arg-type]
    for name, span in found.ranges.items():
        known = {"text.entity": entity, "entropy": entropy, "kurtosis": 0.5}
        raised = known | {name: max(known[name], more)}
        assert (found.score(raised) - found.score(known)) * np.sign(span.weight) >= -1e-12
        assert 0.0 <= found.score(known) <= 1.0


def test_features_that_some_contents_lack_are_no_candidates() -> None:
    features, errors = _contents(20)
    del features[3]["kurtosis"]
    assert "kurtosis" not in fit(features, errors.tolist()).ranges


def test_features_that_do_not_vary_are_no_candidates() -> None:
    features, errors = _contents(20)
    same = [{**found, "skewness": 1.0} for found in features]
    found = fit(same, errors.tolist())
    assert "skewness" not in found.ranges
    assert found.correlations["skewness"] == 0.0


def test_a_fit_is_deterministic() -> None:
    features, errors = _contents(20)
    assert fit(features, errors.tolist()) == fit(features, errors.tolist())


@pytest.mark.parametrize(
    ("count", "scale", "message"), [(FEWEST - 1, 1.0, "or more"), (FEWEST, 0.0, "the error of all contents")]
)
def test_what_cannot_be_fitted_is_refused(count: int, scale: float, message: str) -> None:
    features, found = _contents(count)
    with pytest.raises(ValueError, match=message):
        fit(features, (scale * found).tolist())


def test_nothing_known_is_of_medium_complexity() -> None:
    features, errors = _contents(20)
    assert fit(features, errors.tolist()).score({}) == 0.5


def test_prompts_are_read_and_shadow_errors_left_out() -> None:
    found = candidates(Sample("a red circle bounces", 0, {"entropy": 0.5, "shadow_error:6": 0.1}))
    assert set(found) == {"text.entity", "text.spatial", "text.temporal", "entropy"}
    assert judge(found) is not None

"""The calibration that the embedded model ships."""

import pytest
import torch

from bench.models.model import demo_calibration, demo_transformer
from tadp.demo import CALIBRATION_PROMPTS, PIPELINE_DIR
from tadp.files.automatic import find_calibration, weight_directories
from tadp.files.calibration import load
from tadp.files.fingerprint import fingerprint
from tadp.policy import Complexity, parse

CALIBRATION = PIPELINE_DIR / "tadp-calibration.json"


def test_it_is_of_this_version_and_of_these_weights() -> None:
    model = demo_transformer(torch.bfloat16)
    found = find_calibration(fingerprint(model), weight_directories(model))
    assert found == load(CALIBRATION)
    assert found.samples == len(CALIBRATION_PROMPTS.read_text().splitlines())
    assert found.channel_peaks


def test_the_default_takes_its_score_from_it() -> None:
    found = load(CALIBRATION)
    policy = Complexity().calibrated(found)
    assert policy.ranges == found.ranges
    assert policy.sensitive


@pytest.mark.parametrize("policy", ["budget:quality=40", "budget:quality=44,ends=free", "budget:quality=48"])
def test_budgets_spend_more_on_complex_content(policy: str) -> None:
    costs = load(CALIBRATION).costs
    budget = parse(policy).calibrated(load(CALIBRATION))
    seconds = [costs.seconds(budget.schedule(score), score) for score in (0.0, 0.5, 1.0)]  # type: ignore[attr-defined]
    assert seconds[0] < seconds[-1]
    assert costs.reuse is not None


def test_benchmarks_take_it_for_other_floating_types() -> None:
    model = demo_transformer(torch.float32)
    assert find_calibration(fingerprint(model), weight_directories(model)) is None
    demo_calibration(model).check(fingerprint(model))

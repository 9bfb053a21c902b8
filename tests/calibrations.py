"""A calibration that nobody measured."""

from tadp.complexity.score import FeatureRange, ScoreWeights
from tadp.files.fingerprint import calibration_key
from tadp.planning.calibration import Calibration, Line, RoleSensitivity, Row
from tadp.precision import L8, Role
from tests.policy.costs_of import made_up_costs

FOUND = Calibration(
    key=calibration_key({"transformer": "abc"}, {"num_frames": 17}),
    ranges={"text.entity": FeatureRange(0.1, 0.8, weight=0.3), "entropy": FeatureRange(0.7, 0.8, weight=-0.7)},
    weights=ScoreWeights(0.3, 0.0, 0.7),
    correlations={"text.entity": 0.8, "entropy": -0.7, "skewness": 0.0},
    left_out=0.75,
    costs=made_up_costs(),
    table=(Row("static:8", Line(-5.0, 2.0, 0.3), 6.5, 3000),),
    sensitivity=(
        RoleSensitivity("blocks.0", Role.FFN_UP, L8, "visual", 1e-4, 1e-4, 2e-4),
        RoleSensitivity("blocks.0", Role.ATTENTION, L8, "temporal", 1e-4, 2e-4),
    ),
    samples=32,
    bias={"static:8": -0.5},
)

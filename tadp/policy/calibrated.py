"""What policies take from a calibration."""

from typing import Protocol, TypeVar

from tadp.complexity.score import FeatureRanges, ScoreWeights
from tadp.policy.costs import Costs

PolicyT = TypeVar("PolicyT")


class Calibrated(Protocol):
    """The part of `tadp.calibration.result.Calibration` that policies read."""

    @property
    def ranges(self) -> FeatureRanges: ...
    @property
    def weights(self) -> ScoreWeights: ...
    @property
    def costs(self) -> Costs: ...


def calibrate(policy: PolicyT, calibration: Calibrated) -> PolicyT:
    """A policy with what was measured of a model; one that takes nothing from it stays what it is."""
    apply = getattr(policy, "calibrated", None)
    return policy if apply is None else apply(calibration)

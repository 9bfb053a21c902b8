"""What policies take from a calibration."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch

from tadp.complexity.score import FeatureRanges, ScoreWeights
from tadp.planning.costs import Costs
from tadp.precision import Recipe


class Calibrated(Protocol):
    """The part of `tadp.files.calibration.Calibration` that policies read."""

    @property
    def ranges(self) -> FeatureRanges: ...
    @property
    def weights(self) -> ScoreWeights: ...
    @property
    def costs(self) -> Costs: ...
    @property
    def channel_widths(self) -> Mapping[str, torch.Tensor]: ...


def check_levels(recipes: Iterable[Recipe], calibration: Calibrated | None) -> None:
    """Refuse mixed levels where nothing is known of the importance of channels.

    Raises:
        ValueError: the message says how to get to know it.
    """
    levels = [level for recipe in recipes for level in (recipe.default, *(level for _, level in recipe.overrides))]
    mixed = next((level for level in levels if level.mixed), None)
    if mixed is not None and (calibration is None or not calibration.channel_widths):
        raise ValueError(
            f"level {mixed} gives every output channel a width by its importance, which calibration measures: run "
            "`tadp calibrate` and pass its file, with the .safetensors beside it, to tadp.compile as calibration=..."
        )

"""One complexity score in [0, 1] from the prompt, the image, and what the model shows while it is probed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType


@dataclass(frozen=True)
class ScoreWeights:
    """Weights of the three parts; only their ratios matter. The defaults are those of text-to-video.

    Raises:
        ValueError: if a weight is negative or not finite, or all are 0.
    """

    text: float = 0.6
    image: float = 0.0
    feature: float = 0.4

    def __post_init__(self) -> None:
        for item in fields(self):
            weight = getattr(self, item.name)
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"score weight {item.name!r} must be finite and at least 0, got {weight}")
        if not any(getattr(self, item.name) for item in fields(self)):
            raise ValueError("at least one score weight must be above 0")


@dataclass(frozen=True)
class Score:
    """The complexity score and its parts, all in [0, 1]; a part that was not there is None."""

    total: float
    text: float | None = None
    image: float | None = None
    feature: float | None = None


@dataclass(frozen=True)
class FeatureRange:
    """How one signal of the model becomes a complexity in [0, 1].

    Attributes:
        low: a low percentile (the 5th, where calibration fits it) of the signal over prompts.
        high: a high percentile (the 95th).
        weight: of this signal among the others; its sign says which way it goes. Negative: *low* values are complex.
        logarithmic: whether the signal is placed between `low` and `high` by its logarithm (heavy-tailed signals).

    Raises:
        ValueError: if a number is not finite, `low` is not below `high`, or a logarithm does not exist.
    """

    low: float
    high: float
    weight: float
    logarithmic: bool = False

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.low, self.high, self.weight))):
            raise ValueError(f"a feature range must be finite, got {self}")
        if not self.low < self.high:
            raise ValueError(f"a feature range needs low < high, got {self.low} and {self.high}")
        if self.logarithmic and self.low <= 0:
            raise ValueError(f"a logarithmic feature range needs low > 0, got {self.low}")

    def place(self, value: float) -> float:
        """Complexity in [0, 1] that this signal alone says; values outside the range count as its nearer end.

        Raises:
            ValueError: if the value is NaN.
        """
        if math.isnan(value):
            raise ValueError("a signal of the model is NaN; its activations are broken or its measurement is")
        clipped = min(max(value, self.low), self.high)
        low, high = self.low, self.high
        if self.logarithmic:
            clipped, low, high = math.log(clipped), math.log(low), math.log(high)
        share = min(max((clipped - low) / (high - low), 0.0), 1.0)
        return 1.0 - share if self.weight < 0 else share


FeatureRanges = Mapping[str, FeatureRange]
"""Ranges and weights by feature: a signal of the model as `tadp.runtime.signals.features` names it, or a part of the
score of prompt or image: "text.total", "text.entity", "image.edges", ...
"""

DEFAULT_RANGES: FeatureRanges = MappingProxyType(
    {
        "text.total": FeatureRange(0.0, 1.0, weight=1.0),
        "image.total": FeatureRange(0.0, 1.0, weight=1.0),
        "entropy": FeatureRange(0.55, 0.95, weight=-0.5),
        "kurtosis": FeatureRange(3.0, 100.0, weight=-0.35, logarithmic=True),
        "relative_change": FeatureRange(0.02, 0.5, weight=0.1, logarithmic=True),
    }
)
"""Prompt and image as their scores have them; of the model's signals, those of a first trial.

The signs and the ratios of the signals' weights follow the rank correlations with the error of quantization in a
trial with a small video transformer: entropy -0.45 to -0.56, kurtosis -0.2 to -0.5, relative change about 0.1. The ends
of their ranges are starting values, not measurements; calibration replaces all of it per model.
"""

DEFAULT_WEIGHTS = ScoreWeights()
IMAGE_TO_VIDEO_WEIGHTS = ScoreWeights(text=0.3, image=0.3, feature=0.4)
"""The model's own part keeps its weight; prompt and first frame tell of the same scene and share the rest equally."""


def default_weights(image: float | None) -> ScoreWeights:
    """The weights of a generation's task: with an image it is image-to-video, without one text-to-video."""
    return DEFAULT_WEIGHTS if image is None else IMAGE_TO_VIDEO_WEIGHTS


def combine(
    weights: ScoreWeights = DEFAULT_WEIGHTS,
    text: float | None = None,
    image: float | None = None,
    feature: float | None = None,
) -> Score:
    """Weighted mean of the parts that are there; the weight of a missing one is shared out among the others.

    Raises:
        ValueError: if a part is outside [0, 1], or no part that is there has a weight above 0.
    """
    parts = {"text": text, "image": image, "feature": feature}
    for name, value in parts.items():
        if value is not None and not 0.0 <= value <= 1.0:
            raise ValueError(f"the {name} part of the score must be in [0, 1], got {value}")
    total = _mean([(getattr(weights, name), value) for name, value in parts.items() if value is not None])
    if total is None:
        there = [name for name, value in parts.items() if value is not None] or "none"
        raise ValueError(f"no part of the score with a weight above 0 is there: parts {there}, {weights}")
    return Score(total, text, image, feature)


def judge(
    features: Mapping[str, float], ranges: FeatureRanges = DEFAULT_RANGES, weights: ScoreWeights = DEFAULT_WEIGHTS
) -> Score | None:
    """The score of what is known of some content.

    Args:
        features: by name, see `FeatureRanges`; those without a range do not count.
        ranges: how each becomes a complexity.
        weights: of the parts.

    Returns:
        None where nothing that has a weight is known.

    Raises:
        ValueError: if a feature is NaN.
    """
    parts: dict[str, dict[str, float]] = {"text": {}, "image": {}, "feature": {}}
    for name, value in features.items():
        parts[part_of(name)][name] = value
    placed = {part: place(found, ranges) for part, found in parts.items()}
    if all(value is None or not getattr(weights, part) for part, value in placed.items()):
        return None
    return combine(weights, **placed)


def part_of(feature: str) -> str:
    """The part of the score that a feature belongs to: "text", "image" or "feature"."""
    prefix = feature.partition(".")[0]
    return prefix if prefix in ("text", "image") else "feature"


def place(features: Mapping[str, float], ranges: FeatureRanges = DEFAULT_RANGES) -> float | None:
    """Complexity in [0, 1] that some features tell together; None where none of them has a range and a weight.

    Raises:
        ValueError: if one of them is NaN.
    """
    known = [(ranges[name], value) for name, value in features.items() if name in ranges]
    return _mean([(abs(span.weight), span.place(value)) for span, value in known])


def _mean(weighted: list[tuple[float, float]]) -> float | None:
    """Mean of (weight, value) pairs, kept in [0, 1] against rounding; None where nothing weighs."""
    whole = sum(weight for weight, _ in weighted)
    if whole <= 0:
        return None
    return min(max(sum(weight / whole * value for weight, value in weighted), 0.0), 1.0)

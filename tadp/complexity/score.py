"""One complexity score in [0, 1] from the prompt, the image, and what the model shows while it is probed."""

import math
from dataclasses import dataclass, field, fields


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


@dataclass(frozen=True)
class FeatureRanges:
    """Ranges and weights of the model's signals.

    The signs and the ratios of the weights follow the rank correlations with the damage that quantization did in a
    trial with a small video transformer: entropy -0.45 to -0.56, kurtosis -0.2 to -0.5, relative change about 0.1. The
    ends of the ranges are starting values, not measurements; calibration replaces all of it per model.

    Attributes:
        entropy: attention entropy over the logarithm of the number of keys, averaged over heads, rows and blocks.
        kurtosis: median kurtosis of the inputs of the layers (3 for a normal distribution).
        relative_change: norm of what a block adds, divided by the norm of its input, averaged over blocks.
    """

    entropy: FeatureRange = field(default=FeatureRange(0.55, 0.95, weight=-0.5))
    kurtosis: FeatureRange = field(default=FeatureRange(3.0, 100.0, weight=-0.35, logarithmic=True))
    relative_change: FeatureRange = field(default=FeatureRange(0.02, 0.5, weight=0.1, logarithmic=True))


DEFAULT_WEIGHTS = ScoreWeights()
IMAGE_TO_VIDEO_WEIGHTS = ScoreWeights(text=0.3, image=0.3, feature=0.4)
"""The model's own part keeps its weight; prompt and first frame tell of the same scene and share the rest equally."""

DEFAULT_RANGES = FeatureRanges()


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


def feature(
    entropy: float | None = None,
    kurtosis: float | None = None,
    relative_change: float | None = None,
    ranges: FeatureRanges = DEFAULT_RANGES,
) -> float:
    """Complexity in [0, 1] of what a probe measured; see `FeatureRanges` for the signals. Missing ones are left out.

    Raises:
        ValueError: if a signal is NaN, or no signal that is there has a weight.
    """
    signals = ((ranges.entropy, entropy), (ranges.kurtosis, kurtosis), (ranges.relative_change, relative_change))
    total = _mean([(abs(span.weight), span.place(value)) for span, value in signals if value is not None])
    if total is None:
        raise ValueError("no signal of the model with a weight is there; give entropy, kurtosis or relative_change")
    return total


def _mean(weighted: list[tuple[float, float]]) -> float | None:
    """Mean of (weight, value) pairs, kept in [0, 1] against rounding; None where nothing weighs."""
    whole = sum(weight for weight, _ in weighted)
    if whole <= 0:
        return None
    return min(max(sum(weight / whole * value for weight, value in weighted), 0.0), 1.0)

"""What a calibration found: values that policies plan by, whatever measured them and whatever file they stand in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from tadp.complexity.score import FeatureRanges, ScoreWeights
from tadp.files.fingerprint import versions
from tadp.planning.costs import Costs
from tadp.precision import L0, Level, Recipe, Role

REDO = "calibrate again with `tadp calibrate`"


@dataclass(frozen=True)
class Line:
    """The decimal logarithm of the squared error of clips over their scores, as a straight line that never falls.

    Attributes:
        intercept, slope: of the line; slope at least 0.
        spread: standard deviation around it, over contents that it was not fitted to, told from their median absolute
            deviation.
    """

    intercept: float
    slope: float
    spread: float

    def psnr(self, score: float) -> float:
        """Expected PSNR in dB for content of a score."""
        return -10 * (self.intercept + self.slope * score)


@dataclass(frozen=True)
class Row:
    """What a policy that is the same for all content comes to.

    Attributes:
        policy: its key.
        error: of clips, over scores.
        seconds: of a generation of the calibrated call.
        bytes: of weights in memory.
    """

    policy: str
    error: Line
    seconds: float
    bytes: int


@dataclass(frozen=True)
class RoleSensitivity:
    """What lowering one role of one block changes in predictions, by the metric that fits the role.

    Attributes:
        quality: "visual", "text" or "temporal".
        error: squared relative error by that metric, the mean over recorded steps.
        visual: the same by the metric for visual quality.
        estimate: of `visual`, from a gradient; None where there is none.
    """

    block: str
    role: Role
    level: Level
    quality: str
    error: float
    visual: float
    estimate: float | None = None


@dataclass(frozen=True, eq=False)
class Calibration:
    """What was measured of a model. Two are equal if all their values are, those of tensors included.

    Attributes:
        key: what it holds for, see `tadp.files.fingerprint.calibration_key`.
        ranges, weights: of the complexity score.
        correlations: of every candidate feature with the error (Spearman), also of those that weigh nothing.
        left_out: of the score with the error of contents that it was not fitted to.
        costs: of recipes, by block.
        table: of static policies.
        sensitivity: by block and role.
        samples: how many contents were measured.
        bias: by static policy, predicted minus measured PSNR in dB, the mean over contents.
        channel_peaks: largest absolute values of input channels in each of the stages that `costs` names, by layer:
            ``(stages, columns)``.
        channel_widths: of output channels at mixed levels, by layer: ``(len(MIXED_AVERAGES), rows)`` uint8.
        rotated: roles that gain by rotating columns before they are rounded, and were rotated when all this was
            measured; None where nobody looked.
        path: of the file that it was read from, for people; None for one that was not. It does not count in equality.
    """

    key: Mapping[str, Any]
    ranges: FeatureRanges
    weights: ScoreWeights
    correlations: Mapping[str, float]
    left_out: float
    costs: Costs
    table: tuple[Row, ...]
    sensitivity: tuple[RoleSensitivity, ...]
    samples: int
    bias: Mapping[str, float]
    channel_peaks: Mapping[str, torch.Tensor] = field(default_factory=dict, repr=False)
    channel_widths: Mapping[str, torch.Tensor] = field(default_factory=dict, repr=False)
    rotated: tuple[Role, ...] | None = None
    path: Path | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Calibration):
            return NotImplemented
        tensors = ("channel_peaks", "channel_widths")
        plain = (item.name for item in fields(self) if item.name not in (*tensors, "path"))
        return all(getattr(self, name) == getattr(other, name) for name in plain) and all(
            _same(getattr(self, name), getattr(other, name)) for name in tensors
        )

    def __str__(self) -> str:
        place = "" if self.path is None else f", from {self.path}"
        return f"{self._measured}{place}"

    @property
    def _measured(self) -> str:
        """On how much it was measured, with which versions."""
        known = ", ".join(f"{name} {version}" for name, version in self.key.get("versions", {}).items())
        return f"{self.samples} contents, measured with {known or 'unknown versions'}"

    def check(self, fingerprint: str) -> None:
        """Refuse a calibration of another model or of another version of tadp.

        Another version of torch is no reason: errors are those of tadp's kernels, and times are of the machine that
        measured them in any case.

        Raises:
            ValueError: where it does not hold for a model of this fingerprint; the message says how to redo it.
        """
        if fingerprint not in dict(self.key.get("models", {})).values():
            raise ValueError(
                "this calibration was measured on another model, on other weights of it, or in another floating type: "
                f"{REDO}"
            )
        measured = self.key.get("versions", {})
        if measured.get("tadp") != versions()["tadp"]:
            raise ValueError(f"this calibration is of {self._measured}: {REDO}")


def check_levels(recipes: Iterable[Recipe], calibration: Calibration | None) -> None:
    """Refuse level 0 to run at, and mixed levels where nothing is known of the importance of channels.

    Raises:
        ValueError: the message says what to do instead.
    """
    levels = [level for recipe in recipes for level in (recipe.default, *(level for _, level in recipe.overrides))]
    if L0 in levels:
        raise ValueError(
            "nothing can run at level 0, which stands for reuse: name the level that a block runs at, and when it may "
            "be reused instead, such as 8+reuse:0.01"
        )
    mixed = next((level for level in levels if level.mixed), None)
    if mixed is not None and (calibration is None or not calibration.channel_widths):
        raise ValueError(
            f"level {mixed} gives every output channel a width by its importance, which calibration measures: run "
            "`tadp calibrate` and pass its file, with the .safetensors beside it, to tadp.compile as calibration=..."
        )


def _same(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor]) -> bool:
    """Whether tensors have equal names, types, shapes and values."""
    return ours.keys() == theirs.keys() and all(
        tensor.dtype == theirs[name].dtype and torch.equal(tensor, theirs[name]) for name, tensor in ours.items()
    )

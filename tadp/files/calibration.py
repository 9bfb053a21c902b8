"""What a calibration found, as one value and as a JSON file that knows what it holds for."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from tadp.calibration.table import Line, Row
from tadp.complexity.score import FeatureRange, FeatureRanges, ScoreWeights
from tadp.files.channels import load_channels, path_beside
from tadp.files.fingerprint import versions
from tadp.planning.costs import BlockCost, Costs
from tadp.precision import Level, Recipe, Role

SCHEMA = 1
_REDO = "calibrate again with `tadp calibrate`"


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


@dataclass(frozen=True)
class Calibration:
    """What was measured of a model.

    Attributes:
        key: what it holds for, see `calibration_key`.
        ranges, weights: of the complexity score.
        correlations: of every candidate feature with the damage (Spearman), also of those that weigh nothing.
        left_out: of the score with the damage of contents that it was not fitted to.
        costs: of recipes, by block.
        table: of static policies.
        sensitivity: by block and role.
        samples: how many contents were measured.
        bias: by static policy, predicted minus measured PSNR in dB, the mean over contents.
        channel_peaks: largest absolute values of input channels, by layer: ``(stages, columns)``.
        channel_widths: of output channels at mixed levels, by layer: ``(len(MIXED_AVERAGES), rows)`` uint8. Both are in
            a file of their own, and empty where it is not there.
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
    channel_peaks: Mapping[str, torch.Tensor] = field(default_factory=dict, compare=False, repr=False)
    channel_widths: Mapping[str, torch.Tensor] = field(default_factory=dict, compare=False, repr=False)

    def check(self, fingerprint: str) -> None:
        """Refuse a calibration of another model or of other versions.

        Raises:
            ValueError: where it does not hold for a model of this fingerprint; the message says how to redo it.
        """
        if fingerprint not in dict(self.key.get("models", {})).values():
            raise ValueError(
                "this calibration was measured on another model, on other weights of it, or in another floating type: "
                f"{_REDO}"
            )
        if self.key.get("versions") != versions():
            measured = ", ".join(f"{name} {version}" for name, version in self.key.get("versions", {}).items())
            raise ValueError(f"this calibration was measured with {measured or 'unknown versions'}: {_REDO}")


def save(calibration: Calibration, path: Path) -> None:
    """Write a calibration, but for what it knows of channels; the file is whole or not there."""
    costs = calibration.costs
    content = {
        "schema": SCHEMA,
        "key": dict(calibration.key),
        "samples": calibration.samples,
        "left_out": calibration.left_out,
        "weights": asdict(calibration.weights),
        "ranges": {name: asdict(span) for name, span in calibration.ranges.items()},
        "correlations": dict(calibration.correlations),
        "table": [asdict(row) for row in calibration.table],
        "bias": dict(calibration.bias),
        "costs": {
            **{item.name: getattr(costs, item.name) for item in fields(costs)},
            "base": str(costs.base),
            "blocks": {
                block: {str(recipe): asdict(cost) for recipe, cost in known.items()}
                for block, known in costs.blocks.items()
            },
        },
        "sensitivity": [
            {**asdict(item), "role": str(item.role), "level": str(item.level)} for item in calibration.sensitivity
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    partial.replace(path)


def load(path: Path) -> Calibration:
    """Read a calibration.

    Raises:
        ValueError: where the file is missing, damaged, or of another version of tadp; the message says how to redo it.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"there is no calibration {path}: {_REDO}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"the calibration {path} is damaged ({error}): {_REDO}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"the calibration {path} was written by another version of tadp: {_REDO}")
    try:
        found = _parse(content)
        peaks, widths = load_channels(path_beside(path), found.key)
        return replace(found, channel_peaks=peaks, channel_widths=widths)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the calibration {path} is damaged ({type(error).__name__}: {error}): {_REDO}") from error


def _parse(content: dict[str, Any]) -> Calibration:
    costs = content["costs"]
    blocks = {
        block: {
            Recipe.parse(recipe): BlockCost(tuple(cost["error"]), cost["seconds"], cost["bytes"])
            for recipe, cost in known.items()
        }
        for block, known in costs["blocks"].items()
    }
    lists = {name: tuple(costs[name]) for name in ("stages", "steps", "shares")}
    return Calibration(
        key=content["key"],
        ranges={name: FeatureRange(**span) for name, span in content["ranges"].items()},
        weights=ScoreWeights(**content["weights"]),
        correlations=content["correlations"],
        left_out=content["left_out"],
        costs=Costs(**{**costs, **lists, "blocks": blocks, "base": Recipe.parse(costs["base"])}),
        table=tuple(Row(**{**row, "damage": Line(**row["damage"])}) for row in content["table"]),
        sensitivity=tuple(
            RoleSensitivity(**{**item, "role": Role(item["role"]), "level": Level.parse(item["level"])})
            for item in content["sensitivity"]
        ),
        samples=content["samples"],
        bias=content["bias"],
    )

"""A calibration on disk: a JSON file that vouches for its content, and the tensors of single channels beside it."""

import hashlib
import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from tadp.complexity.score import FeatureRange, ScoreWeights
from tadp.files.channels import load_channels, path_beside, save_channels
from tadp.planning.calibration import REDO, Calibration, Line, RoleSensitivity, Row
from tadp.planning.costs import BlockCost, Costs
from tadp.planning.reuse_costs import ReuseCosts
from tadp.precision import Level, Recipe, Role
from tadp.writing import replacing

SCHEMA = 3


def save(calibration: Calibration, path: Path) -> None:
    """Write a calibration, its channels to the .safetensors file beside `path`; each file is whole or not there.

    The channels come first, and the JSON holds their digest: a run that is killed in between leaves two files that do
    not belong together, and `load` says so.
    """
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
            "reuse": None if costs.reuse is None else _reuse_content(costs.reuse),
            "blocks": {
                block: {str(recipe): asdict(cost) for recipe, cost in known.items()}
                for block, known in costs.blocks.items()
            },
        },
        "sensitivity": [
            {**asdict(item), "role": str(item.role), "level": str(item.level)} for item in calibration.sensitivity
        ],
        "rotated": None if calibration.rotated is None else [str(role) for role in calibration.rotated],
        "channels": save_channels(path_beside(path), calibration),
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**content, "checksum": _checksum(content)}, indent=1, allow_nan=False) + "\n")


def load(path: Path) -> Calibration:
    """Read a calibration with its channels.

    Raises:
        ValueError: where a file is missing, damaged, or of another version of tadp; the message says how to redo it.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"there is no calibration {path}: {REDO}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"the calibration {path} is damaged ({error}): {REDO}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"the calibration {path} was written by another version of tadp: {REDO}")
    try:
        if content.pop("checksum") != _checksum(content):
            raise ValueError("its content does not have its checksum")
        found = _parse(content)
        peaks, widths = load_channels(path_beside(path), found, content["channels"])
        return replace(found, channel_peaks=peaks, channel_widths=widths, path=path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"the calibration {path} is damaged ({type(error).__name__}: {error}): {REDO}") from error


def _checksum(content: dict[str, Any]) -> str:
    """SHA-256 of what a file says, however its text is laid out; the order counts, as blocks run in it."""
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


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
        costs=Costs(
            **{
                **costs,
                **lists,
                "blocks": blocks,
                "base": Recipe.parse(costs["base"]),
                "reuse": None if costs["reuse"] is None else _parse_reuse(costs["reuse"]),
            }
        ),
        table=tuple(Row(**{**row, "error": Line(**row["error"])}) for row in content["table"]),
        sensitivity=tuple(
            RoleSensitivity(**{**item, "role": Role(item["role"]), "level": Level.parse(item["level"])})
            for item in content["sensitivity"]
        ),
        samples=content["samples"],
        bias=content["bias"],
        rotated=None if content.get("rotated") is None else tuple(map(Role, content["rotated"])),
    )


def _reuse_content(reuse: ReuseCosts) -> dict[str, Any]:
    """JSON knows no numbers as keys: bounds stand in rows."""
    by_bound = [[bound, reuse.factors[bound], reuse.skipped[bound]] for bound in reuse.bounds]
    kept = {name: getattr(reuse, name) for name in ("shares", "unit", "intercept", "slope", "factor_at_16", "bytes")}
    return {**kept, "bounds": by_bound}


def _parse_reuse(content: dict[str, Any]) -> ReuseCosts:
    rows = content["bounds"]
    return ReuseCosts(
        shares=tuple(content["shares"]),
        unit=content["unit"],
        intercept=content["intercept"],
        slope=content["slope"],
        factors={bound: factor for bound, factor, _ in rows},
        factor_at_16=content["factor_at_16"],
        skipped={bound: tuple((at_0, at_1) for at_0, at_1 in spans) for bound, _, spans in rows},
        bytes=content["bytes"],
    )

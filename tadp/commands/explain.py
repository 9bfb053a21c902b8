"""`tadp explain`: what became of each layer of a model, and why."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tadp.commands.capture import capture
from tadp.commands.model import controllers
from tadp.commands.settings import Settings
from tadp.report.document import to_json
from tadp.report.table import format_bytes


def explain(settings: Settings, as_json: bool = False) -> int:
    """Compile a model, run it for one step so that its graphs are captured, and print its pieces.

    Returns:
        The exit code.

    Raises:
        InputError: for a model or policy that cannot be used as given.
    """
    # Variants that this one step does not run would only be compiled to be thrown away.
    compiled, _, policy = capture(settings, precompile=False)
    explanations = {name: controller.explain() for name, controller in controllers(compiled).items()}
    if as_json:
        rows = {name: to_json(explanation.rows) for name, explanation in explanations.items()}
        print(json.dumps({"policy": policy, "modules": rows}, indent=1))
        return 0
    for name, explanation in explanations.items():
        print(f"{name} under {policy}\n{explanation}\n")
        print("\n".join(summarize(explanation.rows)) + "\n")
    return 0


def summarize(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Totals in a few lines: pieces and structures, bytes by level, and each reason for a fallback with its count."""
    pieces = {row["piece"]: row["structure"] for row in rows}
    lines = [f"{len(pieces)} pieces of {len(set(pieces.values()))} structures"]
    sizes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for row in rows:
        sizes[str(row["level"])] += row["bytes"] or 0
        if row["reason"]:
            reasons[str(row["reason"])] += 1
    total = ", ".join(f"{format_bytes(size)} at {level}" for level, size in sizes.most_common() if size)
    lines.append(f"weights: {total or 'none'}")
    lines += [f"{count} layers: {reason}" for reason, count in reasons.most_common()]
    return lines

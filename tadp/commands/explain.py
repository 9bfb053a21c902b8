"""`tadp explain`: what became of each layer of a model, and why."""

import json
from collections import Counter
from collections.abc import Sequence

from tadp.commands.capture import capture
from tadp.commands.model import controllers
from tadp.commands.settings import Settings
from tadp.report.document import to_json
from tadp.report.table import format_bytes
from tadp.runtime.explanation import ExplainedLayer


def explain(settings: Settings, as_json: bool = False) -> int:
    """Compile a model, run it for one step so that its graphs are captured, and print its pieces.

    Returns:
        The exit code.

    Raises:
        InputError: for a model or policy that cannot be used as given.
    """
    # Variants that this one step does not run would only be compiled to be thrown away.
    compiled, _, policy = capture(settings, precompile=False)
    modules = controllers(compiled)
    if as_json:
        layers = {name: to_json(controller.layers()) for name, controller in modules.items()}
        print(json.dumps({"policy": policy, "modules": layers}, indent=1))
        return 0
    for name, controller in modules.items():
        known = controller.calibration
        told = "no calibration" if known is None else f"a calibration on {known}"
        print(f"{name} under {policy}, with {told}\n{controller.explain()}\n")
        print("\n".join(summarize(controller.layers())) + "\n")
    return 0


def summarize(layers: Sequence[ExplainedLayer]) -> list[str]:
    """Totals in a few lines: pieces and structures, bytes by level, and each reason for a fallback with its count."""
    pieces = {layer.piece: layer.structure for layer in layers}
    lines = [f"{len(pieces)} pieces of {len(set(pieces.values()))} structures"]
    sizes: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for layer in layers:
        sizes[str(layer.level)] += layer.bytes
        if layer.reason:
            reasons[layer.reason] += 1
    total = ", ".join(f"{format_bytes(size)} at {level}" for level, size in sizes.most_common() if size)
    lines.append(f"weights: {total or 'none'}")
    lines += [f"{count} layers: {reason}" for reason, count in reasons.most_common()]
    return lines

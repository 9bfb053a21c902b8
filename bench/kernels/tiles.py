"""Do output channels of one layer gain from widths of their own, at the same average width?

All linear layers of the blocks of the embedded model, weights as the planes store them, activations at 8 bits. A
solver gives every unit 8, 6 or 4 bits so that there are so many on average. Units are whole layers, as recipes have
them; tiles of neighbouring channels sorted by importance, with the average kept in every layer or over all of them;
and, for comparison, tiles of channels in chance order. Importance is the first-order estimate of calibration, channel
by channel: the squared product of gradient and rounding error. Relative errors of the guided prediction, on other
prompts than those of the estimate.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import torch
from torch import nn
from torch.nn.functional import linear

from bench.models.model import demo_pipeline
from bench.quality.balance import ARGUMENTS, FIRST_SCENE, rounded_rows, rounded_weight
from bench.record import parser, record
from tadp.calibration.channel_widths import channel_widths
from tadp.calibration.gradient import estimate
from tadp.calibration.prediction_error import predict, prediction_error
from tadp.calibration.recording import Step
from tadp.calibration.recording import record as record_steps
from tadp.compiler.layers import block_linears
from tadp.demo.scenes import sample_scene
from tadp.planning.solver import Limit, choose

WIDTHS = (8, 6, 4)
AVERAGES = (7, 6, 5)
TILES = (1, 16, 64)
"""Channels that share a width; kernels work on 16 to 64 at a time."""

Unit = tuple[str, torch.Tensor]
"""A layer and those of its channels that share a width."""
Importance = Mapping[str, Mapping[int, torch.Tensor]]
"""By layer and width, ``(rows,)``: what each output channel adds to the squared error."""


def main() -> None:
    """Errors of uniform and of mixed widths."""
    options = parser(__doc__)
    options.add_argument("--prompts", type=int, default=2)
    options.add_argument("--short", action="store_true", help="one prompt, few steps, one average")
    chosen = options.parse_args()
    prompts, averages, sizes = (1, AVERAGES[1:2], TILES[1:2]) if chosen.short else (chosen.prompts, AVERAGES, TILES)
    arguments = ARGUMENTS | ({"num_inference_steps": 4} if chosen.short else {})
    pipeline = demo_pipeline(torch.float32)
    model = pipeline.transformer
    layers = {found.layer: found.module for found in block_linears(model)}
    columns = {layer: module.in_features for layer, module in layers.items()}
    with torch.no_grad():
        trails = [
            record_steps(
                pipeline, model, sample_scene(FIRST_SCENE + index, 1 + 4 * index % 5).caption, index, arguments
            )
            for index in range(2 * prompts)
        ]
    seen, unseen = ([step for trail in part for step in trail[::4]] for part in (trails[:prompts], trails[prompts:]))
    importance = _importance(model, layers, seen)
    with torch.no_grad():
        references = [predict(model, step) for step in unseen]

        def row(name: str, tile: object, widths: Callable[[str], torch.Tensor]) -> dict[str, object]:
            error = _error(model, layers, unseen, references, widths)
            every = torch.cat([widths(layer).repeat_interleave(columns[layer]) for layer in layers])
            shares = {f"at {width} bits": (every == width).float().mean().item() for width in WIDTHS}
            return {"widths": name, "channels a tile": tile, "relative error": error, **shares}

        rows = [
            row(f"all at {width}", "", lambda layer, w=width: torch.full((layers[layer].out_features,), w))
            for width in WIDTHS
        ]
        for average in averages:
            alone = channel_widths(importance, columns, average)
            rows.append(row(f"{average} on average: level {average}m of tadp", 1, alone.__getitem__))
            for name, tile, units in groupings(importance, sizes):
                widths = chosen_widths(importance, columns, units, average)
                rows.append(row(f"{average} on average: {name}", tile, widths.__getitem__))
    record("tiles", rows, chosen.json, prompts=prompts, steps=len(unseen))


def groupings(importance: Importance, sizes: Sequence[int]) -> list[tuple[str, object, list[list[Unit]]]]:
    """Name, channels of a tile, and units in groups that keep the average each."""
    layers = [[(layer, torch.arange(len(found[WIDTHS[0]])))] for layer, found in importance.items()]
    found: list[tuple[str, object, list[list[Unit]]]] = [("whole layers", "", [list(chain(*layers))])]
    chance = torch.Generator().manual_seed(0)
    for size in sizes:
        ranked = [
            [(layer, tile) for tile in errors[WIDTHS[-1]].argsort(descending=True).split(size)]
            for layer, errors in importance.items()
        ]
        found.append(("tiles of each layer", size, ranked))
        if size > 1:
            found.append(("tiles of all layers", size, [list(chain(*ranked))]))
    shuffled = [
        [(layer, tile) for tile in torch.randperm(len(errors[WIDTHS[0]]), generator=chance).split(sizes[-1])]
        for layer, errors in importance.items()
    ]
    found.append(("tiles in chance order of each layer", sizes[-1], shuffled))
    return found


def chosen_widths(
    importance: Importance, columns: Mapping[str, int], groups: Sequence[Sequence[Unit]], average: float
) -> dict[str, torch.Tensor]:
    """A width for every output channel of every layer, ``(rows,)``: of least error.

    Args:
        importance: of channels.
        columns: inputs of each layer.
        groups: of units that keep the average each.
        average: bits of a weight, at most.
    """
    widths = {layer: torch.empty(len(found[WIDTHS[0]]), dtype=torch.int64) for layer, found in importance.items()}
    for units in groups:
        costs = [[float(importance[layer][width][rows].sum()) for width in WIDTHS] for layer, rows in units]
        weights = [columns[layer] * len(rows) for layer, rows in units]
        bits = [[float(width * count) for width in WIDTHS] for count in weights]
        picks = choose(costs, [Limit(bits, average * sum(weights))])
        assert picks is not None
        for (layer, rows), pick in zip(units, picks, strict=True):
            widths[layer][rows] = WIDTHS[pick]
    return widths


def _importance(
    model: nn.Module, layers: Mapping[str, nn.Linear], steps: Sequence[Step]
) -> dict[str, dict[int, torch.Tensor]]:
    """Summed over steps."""
    found: dict[str, dict[int, torch.Tensor]] = {}
    for step in steps:
        for layer, by_width in estimate(model, layers, next(iter(step.inputs.values())), WIDTHS).items():
            known = found.setdefault(layer, {})
            for width, error in by_width.items():
                known[width] = known.get(width, 0) + error.channels
    return found


def _error(
    model: nn.Module,
    layers: Mapping[str, nn.Linear],
    steps: Sequence[Step],
    references: Sequence[Mapping[str, torch.Tensor]],
    widths: Callable[[str], torch.Tensor],
) -> float:
    """Root of the mean squared relative error of the guided prediction."""
    plain = {layer: module.forward for layer, module in layers.items()}
    for layer, module in layers.items():
        module.forward = _forward(module, widths(layer))  # type: ignore[method-assign]
    guidance = float(ARGUMENTS["guidance_scale"])  # type: ignore[arg-type]
    errors = [
        prediction_error(predict(model, step), reference, guidance).visual
        for step, reference in zip(steps, references, strict=True)
    ]
    for layer, module in layers.items():
        module.forward = plain[layer]  # type: ignore[method-assign]
    return math.sqrt(sum(errors) / len(errors))


def _forward(module: nn.Linear, widths: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    weight = torch.empty_like(module.weight)
    for width in widths.unique().tolist():
        weight[widths == width] = rounded_weight(module.weight, width, None)[widths == width]
    return lambda x: linear(rounded_rows(x, 8), weight, module.bias)


if __name__ == "__main__":
    main()

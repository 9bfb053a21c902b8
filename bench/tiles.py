"""Do output channels of one layer gain from widths of their own, at the same average width?

All linear layers of the blocks of the embedded model, weights as the planes store them, activations at 8 bits. Channels
are sorted by importance into tiles, and an exact solver gives every tile 8, 6 or 4 bits so that the layer has 6 on
average. Importance is the first-order estimate of calibration, channel by channel: the squared product of gradient and
rounding error. Relative errors of the guided prediction, on other prompts than those of the estimate.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn.functional import linear

from bench.balance import ARGUMENTS, FIRST_SCENE, rounded_rows, rounded_weight
from bench.model import demo_pipeline
from bench.record import parser, record
from tadp.calibration.gradient import channel_errors
from tadp.calibration.recording import Step
from tadp.calibration.recording import record as record_steps
from tadp.calibration.sensitivity import change, predict
from tadp.demo.scenes import sample_scene
from tadp.passes.blocks import block_linears
from tadp.policy.solver import Limit, choose

WIDTHS = (8, 6, 4)
AVERAGE = 6
TILES = (1, 16, 64)
"""Channels that share a width; kernels work on 16 to 64 at a time."""


def main() -> None:
    """Errors of uniform and of mixed widths."""
    options = parser(__doc__)
    options.add_argument("--prompts", type=int, default=2)
    options.add_argument("--short", action="store_true", help="one prompt, few steps")
    chosen = options.parse_args()
    prompts = 1 if chosen.short else chosen.prompts
    arguments = ARGUMENTS | ({"num_inference_steps": 4} if chosen.short else {})
    pipeline = demo_pipeline(torch.float32)
    model = pipeline.transformer
    layers = {found.layer: found.module for found in block_linears(model)}
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
        rows = [
            _row(model, layers, unseen, references, f"uniform W{width}A8", "", lambda layer, w=width: w)
            for width in WIDTHS
        ]
        for tile in TILES:
            widths = {layer: tile_widths(found, tile) for layer, found in importance.items()}
            row = _row(model, layers, unseen, references, f"mixed, {AVERAGE} on average", tile, widths.__getitem__)
            shares = torch.cat(list(widths.values()))
            rows.append(row | {f"at {width} bits": (shares == width).float().mean().item() for width in WIDTHS})
    for row in rows:
        for width in WIDTHS:
            row.setdefault(f"at {width} bits", "")
    record("tiles", rows, chosen.json, prompts=prompts, steps=len(unseen))


def tile_widths(errors: Mapping[int, torch.Tensor], tile: int) -> torch.Tensor:
    """A width for every output channel, `AVERAGE` in the mean.

    Args:
        errors: by width, ``(rows,)``: what each channel adds to the squared error.
        tile: channels that share a width, neighbours in the order of their importance.
    """
    order = errors[WIDTHS[-1]].argsort(descending=True)
    tiles = order.split(tile)
    costs = [[float(errors[width][members].sum()) for width in WIDTHS] for members in tiles]
    bits = [[float(width * len(members)) for width in WIDTHS] for members in tiles]
    picks = choose(costs, [Limit(bits, AVERAGE * len(order))])
    assert picks is not None
    widths = torch.empty(len(order), dtype=torch.int64)
    for members, pick in zip(tiles, picks, strict=True):
        widths[members] = WIDTHS[pick]
    return widths


def _importance(
    model: nn.Module, layers: Mapping[str, nn.Linear], steps: Sequence[Step]
) -> dict[str, dict[int, torch.Tensor]]:
    """By layer and width, what each output channel adds to the squared error, summed over steps."""
    found: dict[str, dict[int, torch.Tensor]] = {}
    for step in steps:
        for layer, by_width in channel_errors(model, layers, next(iter(step.inputs.values())), WIDTHS).items():
            known = found.setdefault(layer, {})
            for width, errors in by_width.items():
                known[width] = known.get(width, 0) + errors
    return found


def _row(
    model: nn.Module,
    layers: Mapping[str, nn.Linear],
    steps: Sequence[Step],
    references: Sequence[Mapping[str, torch.Tensor]],
    name: str,
    tile: object,
    widths: Callable[[str], int | torch.Tensor],
) -> dict[str, object]:
    plain = {layer: module.forward for layer, module in layers.items()}
    for layer, module in layers.items():
        module.forward = _forward(module, widths(layer))  # type: ignore[method-assign]
    guidance = float(ARGUMENTS["guidance_scale"])  # type: ignore[arg-type]
    errors = [
        change(predict(model, step), reference, guidance).visual
        for step, reference in zip(steps, references, strict=True)
    ]
    for layer, module in layers.items():
        module.forward = plain[layer]  # type: ignore[method-assign]
    return {"widths": name, "channels a tile": tile, "relative error": math.sqrt(sum(errors) / len(errors))}


def _forward(module: nn.Linear, widths: int | torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    if isinstance(widths, int):
        weight = rounded_weight(module.weight, widths, None)
    else:
        weight = torch.empty_like(module.weight)
        for width in WIDTHS:
            weight[widths == width] = rounded_weight(module.weight, width, None)[widths == width]
    return lambda x: linear(rounded_rows(x, 8), weight, module.bias)


if __name__ == "__main__":
    main()

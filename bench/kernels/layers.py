"""What signal-to-noise ratio does each width leave in the outputs of the embedded model's own linear layers?"""

import re
import statistics

import torch

from bench.models.model import demo_inputs, demo_transformer
from bench.record import parser, record
from tadp.kernels import BitPlaneWeight
from tadp.kernels.rotation import size_for

TIMESTEPS = (900.0, 500.0, 100.0)
WIDTHS = (8, 6, 4)
BLOCK = re.compile(r"blocks\.\d+\.")

Taken = dict[str, list[torch.Tensor]]


def main() -> None:
    """Record what every layer of every block takes in at three timesteps; compare its product with float64."""
    options = parser(__doc__)
    options.add_argument("--rotate", action="store_true", help="rotate columns before they are rounded")
    chosen = options.parse_args()
    model = demo_transformer(torch.float32)
    layers = {
        name: layer for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear) and BLOCK.match(name)
    }
    with torch.no_grad():
        taken = inputs_of(model, layers)
        found = {name: ratios(layer, taken[name], rotate=chosen.rotate) for name, layer in layers.items()}
    kinds = sorted({BLOCK.sub("", name) for name in layers})
    rows: list[dict[str, object]] = []
    for kind in kinds:
        same = [ratio for name, ratio in found.items() if BLOCK.sub("", name) == kind]
        row: dict[str, object] = {"layer": kind}
        for width in WIDTHS:
            row[f"W{width}A8, dB"] = statistics.median(ratio[f"W{width}A8"] for ratio in same)
            row[f"W{width}A16, dB"] = statistics.median(ratio[f"W{width}A16"] for ratio in same)
        row["worst W4A8"] = min(ratio["W4A8"] for ratio in same)
        rows.append(row)
    record("layers", rows, chosen.json, timesteps=TIMESTEPS, value="median over the blocks")


def inputs_of(model: torch.nn.Module, layers: dict[str, torch.nn.Linear]) -> Taken:
    """What each layer takes in over the forwards."""
    taken: Taken = {name: [] for name in layers}

    def note(name: str) -> torch.utils.hooks.RemovableHandle:
        return layers[name].register_forward_pre_hook(lambda _, given: taken[name].append(given[0].flatten(0, -2)))

    hooks = [note(name) for name in layers]
    for timestep in TIMESTEPS:
        model(**demo_inputs(torch.float32, timestep))
    for hook in hooks:
        hook.remove()
    return taken


def ratios(layer: torch.nn.Linear, taken: list[torch.Tensor], *, rotate: bool = False) -> dict[str, float]:
    """Decibels by width; the bias, which is exact, does not count as signal."""
    packed = BitPlaneWeight.from_hp(layer.weight, rotation=size_for(layer.in_features) if rotate else 0)
    return ratios_of(packed, layer.weight, torch.cat(taken))


def ratios_of(packed: BitPlaneWeight, weight: torch.Tensor, x: torch.Tensor) -> dict[str, float]:
    """Decibels by width of a packed weight's products with ``(tokens, columns)``, on a weight's own."""
    reference = x.double() @ weight.double().T
    found = {}
    for width in WIDTHS:
        weight_only = x.double() @ packed.dequantize(width).double().T
        for name, value in ((f"W{width}A8", packed.linear(x, width=width).double()), (f"W{width}A16", weight_only)):
            noise = (value - reference).square().sum()
            found[name] = (10 * torch.log10(reference.square().sum() / noise)).item()
    return found


if __name__ == "__main__":
    main()

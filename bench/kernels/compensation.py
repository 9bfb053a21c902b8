"""What do codes chosen with activations win at each width, and what does one width cost the others?

Layers of the embedded model, signal-to-noise of their outputs on activations of other prompts and other steps than
those that codes were chosen with. The bias, which is exact, does not count as signal.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn

from bench.kernels.layers import BLOCK, WIDTHS, ratios_of
from bench.models.model import GENERATION, demo_pipeline
from bench.record import parser, record
from tadp.calibration.hessians import hessians_by_block
from tadp.calibration.recording import Step
from tadp.calibration.recording import record as record_steps
from tadp.calibration.rounding import IMPORTANCE, Curvature, compensate
from tadp.compiler.layers import block_linears
from tadp.demo.scenes import sample_scene
from tadp.kernels import BitPlaneWeight

FIRST_SCENE = 7 * 10**9
ARGUMENTS = {name: value for name, value in GENERATION.items() if name != "output_type"}
EVERY = 3  # of the steps
TOKENS = 256  # of a forward, that outputs are compared on
BLOCKS = (0, 3, 6)
IMPORTANCES: tuple[tuple[float, float, float], ...] = (
    (1.0, 1.0, 1.0),
    (0.3, 0.5, 1.0),
    (0.05, 0.2, 1.0),
    (0.03, 0.15, 1.0),
    (0.01, 0.1, 1.0),
    (1e-4, 1e-2, 1.0),
)
"""Of 8, 6 and 4 bits, beside the default; the last one rounds to 4 bits first and to the others in what that leaves."""
GROUPS = (64,)  # 128 do not divide its rows of 192 columns

Layers = Mapping[str, nn.Linear]
Ratios = dict[str, float]


@torch.no_grad()
def main() -> None:
    """Ratios of all layers for each importance, then of each kind of layer under the default one."""
    options = parser(__doc__)
    options.add_argument("--prompts", type=int, default=3, help="to choose codes with, and as many to compare on")
    options.add_argument("--steps", type=int, default=20, help="of their generations")
    options.add_argument("--blocks", type=int, nargs="+", default=BLOCKS, help="whose layers are compared")
    options.add_argument("--short", action="store_true", help="one prompt of 6 steps for each purpose, one block")
    chosen = options.parse_args()
    prompts, blocks, count = (1, BLOCKS[:1], 6) if chosen.short else (chosen.prompts, chosen.blocks, chosen.steps)
    arguments = ARGUMENTS | {"num_inference_steps": count}
    pipeline = demo_pipeline(torch.float32)
    model = pipeline.transformer
    layers = {
        found.layer: found.module
        for found in block_linears(model)
        if found.block in {f"blocks.{index}" for index in blocks}
    }
    trails = [
        record_steps(pipeline, model, sample_scene(FIRST_SCENE + index, 1 + 4 * index % 5).caption, index, arguments)
        for index in range(2 * prompts)
    ]
    seen = [step for trail in trails[:prompts] for step in trail[::EVERY]]
    unseen = [step for trail in trails[prompts:] for step in trail[1::EVERY]]
    by_block: dict[str, dict[str, nn.Linear]] = {}
    for name, layer in layers.items():
        by_block.setdefault(".".join(name.split(".")[:2]), {})[name] = layer
    curvatures: dict[str, Curvature] = {}
    for _, hessians in hessians_by_block(model, by_block, seen):
        curvatures |= {name: Curvature.of(hessian) for name, hessian in hessians.items()}
    inputs = inputs_of(model, layers, unseen)

    def ratios(packed: Mapping[str, BitPlaneWeight]) -> dict[str, Ratios]:
        return {name: ratios_of(packed[name], layer.weight, inputs[name]) for name, layer in layers.items()}

    rows: list[dict[str, object]] = []
    plain = {size: ratios(without_data(layers, size)) for size in (None, *GROUPS)}
    ours = {size: ratios(with_data(layers, curvatures, size)) for size in (None, *GROUPS)}
    for size in plain:
        scales = "row" if size is None else str(size)
        rows.append({"codes": "without data", "scale for": scales, "layers": "all"} | summary(plain[size].values()))
        rows.append({"codes": named(IMPORTANCE), "scale for": scales, "layers": "all"} | summary(ours[size].values()))
    for numbers in IMPORTANCES[-2:] if chosen.short else IMPORTANCES:
        importance = dict(zip(WIDTHS, numbers, strict=True))
        found = ratios(with_data(layers, curvatures, None, importance))
        rows.append({"codes": named(importance), "scale for": "row", "layers": "all"} | summary(found.values()))
    for kind in sorted({BLOCK.sub("", name) for name in layers}):
        for codes, found in (("without data", plain[None]), (named(IMPORTANCE), ours[None])):
            same = [ratio for name, ratio in found.items() if BLOCK.sub("", name) == kind]
            rows.append({"codes": codes, "scale for": "row", "layers": kind} | summary(same))
    record("compensation", rows, chosen.json, prompts=prompts, steps=len(unseen), blocks=blocks, value="median")


def without_data(layers: Layers, size: int | None) -> dict[str, BitPlaneWeight]:
    """Each value rounded on its own."""
    return {name: BitPlaneWeight.from_hp(layer.weight, size) for name, layer in layers.items()}


def with_data(
    layers: Layers,
    curvatures: Mapping[str, Curvature],
    size: int | None,
    importance: Mapping[int, float] = IMPORTANCE,
) -> dict[str, BitPlaneWeight]:
    """Codes that `compensate` chooses."""
    return {
        name: BitPlaneWeight.from_codes(
            *compensate(layer.weight, curvatures[name], size, importance), dtype=layer.weight.dtype
        )
        for name, layer in layers.items()
    }


def inputs_of(model: nn.Module, layers: Layers, steps: Sequence[Step]) -> dict[str, torch.Tensor]:
    """Some tokens of what each layer takes in each forward, ``(tokens, columns)``."""
    taken: dict[str, list[torch.Tensor]] = {name: [] for name in layers}

    def note(name: str) -> torch.utils.hooks.RemovableHandle:
        def keep(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
            rows = given[0].flatten(0, -2)
            taken[name].append(rows[:: -(-len(rows) // TOKENS)].clone())

        return layers[name].register_forward_pre_hook(keep)

    hooks = [note(name) for name in layers]
    for step in steps:
        for inputs in step.inputs.values():
            model(**inputs)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(found) for name, found in taken.items()}


def named(importance: Mapping[int, float]) -> str:
    """Importance of 8, 6 and 4 bits as the table shows it."""
    return " : ".join(f"{importance[width]:g}" for width in WIDTHS)


def summary(found: Iterable[Ratios]) -> dict[str, object]:
    """The median of each ratio over layers, dB."""
    ratios = list(found)
    return {f"{name}, dB": statistics.median(ratio[name] for ratio in ratios) for name in ratios[0]}


if __name__ == "__main__":
    main()

"""Does balancing channels help, once for all timesteps or anew for each range of them?

All linear layers of the blocks of the embedded model rounded in float32, weights as the planes store them, activations
per token, on steps of generations at 16 bits. Relative errors of the guided prediction; what is folded into a weight is
rounded with it.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.nn.functional import linear

from bench.models.model import GENERATION, demo_pipeline
from bench.record import parser, record
from tadp.calibration.channels import channel_peaks
from tadp.calibration.prediction_error import predict, prediction_error
from tadp.calibration.recording import Step, stage_of, stages_of
from tadp.calibration.recording import record as record_steps
from tadp.compiler.balancing import balance, by_group
from tadp.compiler.layers import block_linears
from tadp.demo.scenes import sample_scene
from tadp.kernels import planes
from tadp.kernels.formats import FORMATS
from tadp.policy.complexity import PROBE_STEPS

WIDTHS = {"W8A8": (8, 8), "W4A8": (4, 8), "W6A6": (6, 6)}
ALPHAS = (0.25, 0.5, 0.75)
RANGES = 3
GROUP = 64
FIRST_SCENE = 7 * 10**9
ARGUMENTS = {name: value for name, value in GENERATION.items() if name != "output_type"}

Factors = Callable[[str, int], torch.Tensor]
"""Of a layer in a stage."""


@torch.no_grad()
def main() -> None:
    """Errors by width, way of balancing and alpha."""
    options = parser(__doc__)
    options.add_argument("--prompts", type=int, default=2)
    options.add_argument("--short", action="store_true", help="one prompt, one alpha, four steps")
    chosen = options.parse_args()
    prompts, alphas = (1, ALPHAS[1:2]) if chosen.short else (chosen.prompts, ALPHAS)
    arguments = ARGUMENTS | ({"num_inference_steps": 6} if chosen.short else {})
    pipeline = demo_pipeline(torch.float32)
    model = pipeline.transformer
    layers = {found.layer: found.module for found in block_linears(model)}
    trails = [
        record_steps(pipeline, model, sample_scene(FIRST_SCENE + index, 1 + 4 * index % 5).caption, index, arguments)
        for index in range(2 * prompts)
    ]
    stages = stages_of([step.noise for step in trails[0]], PROBE_STEPS, RANGES)
    seen, unseen = ([step for trail in part for step in trail[::2]] for part in (trails[:prompts], trails[prompts:]))
    peaks = channel_peaks(model, layers, seen, stages)
    references = [predict(model, step) for step in unseen]
    rows = []
    for name, (width, bits) in WIDTHS.items():
        for group in (None, GROUP):
            found = Rounded(model, layers, stages, width, bits, group, unseen, references)
            rows.append(found.row(name, "none", None, lambda layer, stage: torch.ones(layers[layer].in_features)))
            for alpha in alphas:
                for way, factors in ways(layers, peaks, alpha, group).items():
                    rows.append(found.row(name, way, alpha, factors))
    record(
        "balance", rows, chosen.json, prompts=prompts, steps=len(unseen), ranges_end_at=[round(s, 3) for s in stages]
    )


def ways(
    layers: Mapping[str, nn.Linear], peaks: Mapping[str, torch.Tensor], alpha: float, group: int | None
) -> dict[str, Factors]:
    """Ways of balancing, by name."""
    static = {layer: balance(peaks[layer].amax(0), module.weight, alpha) for layer, module in layers.items()}
    ranged = {
        layer: [balance(of_stage, module.weight, alpha) for of_stage in peaks[layer]]
        for layer, module in layers.items()
    }
    found: dict[str, Factors] = {
        "static": lambda layer, stage: static[layer],
        "by range, weights rounded anew": lambda layer, stage: ranged[layer][stage],
    }
    if group is not None:
        found["by range, in the scales of groups"] = lambda layer, stage: by_group(
            ranged[layer][stage], static[layer], layers[layer].in_features // group
        )
    return found


class Rounded:
    """The model with all its layers rounded."""

    def __init__(
        self,
        model: nn.Module,
        layers: Mapping[str, nn.Linear],
        stages: Sequence[float],
        width: int,
        bits: int,
        group: int | None,
        steps: Sequence[Step],
        references: Sequence[Mapping[str, torch.Tensor]],
    ) -> None:
        self._model, self._layers, self._stages = model, layers, stages
        self._width, self._bits, self._group = width, bits, group
        self._steps, self._references = steps, references

    def row(self, name: str, way: str, alpha: float | None, factors: Factors) -> dict[str, object]:
        """Errors under a way of balancing, in all steps and in each range."""
        errors: dict[int, list[float]] = {}
        for stage in range(len(self._stages) + 1):
            steps = [
                (step, reference)
                for step, reference in zip(self._steps, self._references, strict=True)
                if stage_of(step.noise, self._stages) == stage
            ]
            plain = {layer: module.forward for layer, module in self._layers.items()}
            for layer, module in self._layers.items():
                module.forward = self._forward(module, factors(layer, stage))  # type: ignore[method-assign]
            for step, reference in steps:
                guidance = float(GENERATION["guidance_scale"])  # type: ignore[arg-type]
                errors.setdefault(stage, []).append(
                    prediction_error(predict(self._model, step), reference, guidance).visual
                )
            for layer, module in self._layers.items():
                module.forward = plain[layer]  # type: ignore[method-assign]
        every = [error for found in errors.values() for error in found]
        row: dict[str, object] = {"widths": name, "scales": f"groups of {self._group}" if self._group else "rows"}
        row |= {"balancing": way, "alpha": "" if alpha is None else alpha, "relative error": _root_mean(every)}
        return row | {f"range {stage}": _root_mean(found) for stage, found in sorted(errors.items())}

    def _forward(self, module: nn.Linear, factors: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        weight = rounded_weight(module.weight * factors, self._width, self._group)
        return lambda x: linear(rounded_rows(x / factors, self._bits), weight, module.bias)


def rounded_weight(weight: torch.Tensor, width: int, group: int | None) -> torch.Tensor:
    """A weight as its planes restore it at a width."""
    codes, scale = planes.encode(weight, group)
    shift = 8 - width
    steps = (codes >> shift << shift).float() - FORMATS[width].zero_point
    owners = planes.group_of_columns(weight.shape[1], scale.shape[1]) if scale.dim() == 2 else None
    return steps * (scale[:, owners] if owners is not None else scale[:, None])


def rounded_rows(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Activations rounded per token, to -(2^(bits-1) - 1) ... 2^(bits-1) - 1."""
    most = 2 ** (bits - 1) - 1
    scale = x.abs().amax(-1, keepdim=True) / most
    return (x / scale.clamp(min=1e-30)).round() * scale


def _root_mean(squares: Sequence[float]) -> float:
    return math.sqrt(sum(squares) / len(squares))


if __name__ == "__main__":
    main()

"""Which roles gain by rotating columns before they are rounded, on activations of the model itself."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tadp.calibration.recording import Step
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.kernels.rotation import size_for
from tadp.precision import Role

LEAST_GAIN = 1.0
"""In dB at 8 bits, of the median layer of a role: a rotation costs an eighth of a narrow product, and a hundredth of a
wide one."""

TOKENS = 512
"""Of each input that are looked at, spread over all of them."""


@torch.no_grad()
def rotation_gains(
    model: torch.nn.Module,
    layers: Mapping[str, torch.nn.Linear],
    steps: Sequence[Step],
    width: int = 8,
) -> dict[str, float]:
    """What a rotation adds to the signal-to-noise ratio of the output of every layer that can have one, in dB.

    Args:
        model: not compiled yet.
        layers: its layers to look at, by path.
        steps: recorded ones.
        width: bits of the weight; activations have 8.
    """
    turnable = {layer: module for layer, module in layers.items() if size_for(module.in_features)}
    noise: dict[str, list[float]] = {layer: [0.0, 0.0] for layer in turnable}

    def noting(layer: str, module: torch.nn.Linear) -> Any:
        plain = module.weight.detach()
        packed = [BitPlaneWeight.from_hp(plain, rotation=size) for size in (0, size_for(module.in_features))]

        def note(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            x = inputs[0].detach().flatten(0, -2)
            x = x[:: max(1, len(x) // TOKENS)].float()
            exact = x @ plain.float().T
            for index, weight in enumerate(packed):
                noise[layer][index] += float((weight.linear(x, width=width) - exact).square().sum())

        return note

    hooks = [module.register_forward_pre_hook(noting(layer, module)) for layer, module in turnable.items()]
    try:
        for step in steps:
            model(**next(iter(step.inputs.values())))
    finally:
        for hook in hooks:
            hook.remove()
    ran = {layer: pair for layer, pair in noise.items() if all(pair)}
    return {layer: 10 * float(torch.tensor(before / after).log10()) for layer, (before, after) in ran.items()}


def roles_that_gain(gains: Mapping[str, float], roles: Mapping[str, Role]) -> tuple[Role, ...]:
    """Roles whose median layer gains `LEAST_GAIN` or more, in the order of `Role`."""
    by_role: dict[Role, list[float]] = {}
    for layer, gain in gains.items():
        by_role.setdefault(roles[layer], []).append(gain)
    return tuple(role for role in Role if role in by_role and statistics.median(by_role[role]) >= LEAST_GAIN)

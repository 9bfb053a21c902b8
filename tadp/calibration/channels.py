"""How large each input channel of each layer gets, stage by stage: what balancing channels needs to know."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tadp.calibration.recording import Step, stage_of


@torch.no_grad()
def channel_peaks(
    model: torch.nn.Module, layers: Mapping[str, torch.nn.Linear], steps: Sequence[Step], stages: Sequence[float]
) -> dict[str, torch.Tensor]:
    """The largest absolute value of every input channel.

    Args:
        model: not compiled yet.
        layers: its layers to look at, by path.
        steps: recorded, some of every stage.
        stages: noise levels that part the stages.

    Returns:
        By layer, ``(stages + 1, columns)`` float32; 0 for stages without a step and layers that did not run.
    """
    found = {layer: torch.zeros(len(stages) + 1, module.in_features) for layer, module in layers.items()}
    stage = 0

    def noting(name: str) -> Any:
        def note(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            peaks = inputs[0].detach().float().abs().flatten(0, -2).amax(0).cpu()
            found[name][stage] = torch.maximum(found[name][stage], peaks)

        return note

    hooks = [module.register_forward_pre_hook(noting(layer)) for layer, module in layers.items()]
    try:
        for step in steps:
            stage = stage_of(step.noise, stages)
            for inputs in step.inputs.values():
                model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found

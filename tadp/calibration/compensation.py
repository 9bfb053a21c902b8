"""Codes for all layers of a model: activations are gathered block by block, and each finished block is on disk."""

from collections.abc import Callable, Mapping, Sequence

import torch
from tqdm import tqdm

from tadp.calibration.hessians import MEMORY, hessians_by_block
from tadp.calibration.recording import Step
from tadp.calibration.rounding import Curvature, compensate
from tadp.files.codes import CodesHeader, CodesWriter, WeightCodes
from tadp.kernels.planes import group_count

Rotate = Callable[[torch.Tensor, int], torch.Tensor]
"""Rotates the last dimension of a matrix in blocks of so many columns."""


@torch.no_grad()
def write_codes(
    model: torch.nn.Module,
    layers: Mapping[str, Mapping[str, torch.nn.Linear]],
    steps: Sequence[Step],
    header: CodesHeader,
    writer: CodesWriter,
    rotate: Rotate | None = None,
    memory: int = MEMORY,
) -> tuple[str, ...]:
    """Choose the codes of every block that has none yet, and write them.

    Args:
        model: not compiled, at 16 bits.
        layers: linear layers by path, by block, in the order in which blocks run.
        steps: recorded, see `tadp.calibration.recording`.
        header: what is to be chosen.
        writer: of the header.
        rotate: for layers of ``header.rotations``: what turns weights and activations before codes are chosen.
        memory: bytes for what is known of activations.

    Returns:
        Layers that no step ran, which therefore have no codes.

    Raises:
        ValueError: for rotations without `rotate`, and for activations or weights that are not finite.
    """
    if header.rotations and rotate is None:
        raise ValueError(f"layers are to be rotated, {', '.join(header.rotations)}, but nothing says how")
    missing = {block: layers[block] for block in writer.missing}
    idle: list[str] = []
    count = sum(layer.weight.numel() for own in missing.values() for layer in own.values())
    with tqdm(total=count, desc="choosing codes", unit="weight", unit_scale=True) as bar:
        for block, hessians in hessians_by_block(model, missing, steps, memory):
            found = {}
            turned = _Curvatures(hessians, rotate)
            for name, layer in missing[block].items():
                if name in hessians:
                    found[name] = _of_layer(name, layer, turned, header)
                else:
                    idle.append(name)
                bar.update(layer.weight.numel())
            writer.write(block, found)
    return tuple(idle)


def _of_layer(name: str, layer: torch.nn.Linear, curvatures: "_Curvatures", header: CodesHeader) -> WeightCodes:
    size = header.rotations.get(name)
    weight = layer.weight.detach().float()
    if size is not None and curvatures.rotate is not None:
        weight = curvatures.rotate(weight, size)
    fitting = header.group_size if group_count(weight.shape[1], header.group_size) else None
    try:
        return compensate(weight, curvatures.of(name, size), fitting, header.importance)
    except ValueError as error:
        raise ValueError(f"no codes can be chosen for {name}: {error}") from error


class _Curvatures:
    """Of one block; layers that share their inputs and their rotation share one."""

    def __init__(self, hessians: Mapping[str, torch.Tensor], rotate: Rotate | None) -> None:
        self.rotate = rotate
        self._hessians = hessians
        self._known: dict[tuple[int, int | None], Curvature] = {}

    def of(self, layer: str, size: int | None) -> Curvature:
        """For a layer whose columns are rotated in blocks of `size`; None for not at all."""
        hessian = self._hessians[layer]
        key = (id(hessian), size)
        if key not in self._known:
            if size is not None and self.rotate is not None:
                hessian = self.rotate(self.rotate(hessian, size).T.contiguous(), size)
            self._known.clear()  # layers that share stand side by side
            self._known[key] = Curvature.of(hessian)
        return self._known[key]

"""Offloading of compiled models: blocks wait in main memory under the calls that diffusers has for it."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch

from tadp.compiler.layers import BlockLinear
from tadp.compiler.reusing import Runs
from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.runtime.controller import Controller
from tadp.runtime.pool import WeightPool
from tadp.runtime.streaming import BlockStreamer, Needs, needs_of

LEFT_ALONE = (
    "offload_type",
    "num_blocks_per_group",
    "non_blocking",
    "record_stream",
    "low_cpu_mem_usage",
    "offload_to_disk_path",
)
"""Options of diffusers' group offloading that mean nothing where planes are streamed block by block."""


class Offloading:
    """Whether the blocks of a compiled model are streamed, and what streams them."""

    def __init__(self, packed: Sequence[BlockLinear], pool: WeightPool, controller: Controller) -> None:
        self._packed, self._pool, self._controller = packed, pool, controller
        self._roles = {linear.layer: linear.role for linear in packed}
        self._blocks = {linear.layer: linear.block for linear in packed}
        self.streamer: BlockStreamer | None = None

    def runs(self) -> Runs | None:
        """What runs blocks; None while nothing is streamed."""
        return None if self.streamer is None else self.streamer.run

    def start(self, device: torch.device) -> None:
        """Stream planes to a device from here on; those that are on it leave it, but for two blocks' worth."""
        self.stop()
        self._controller.complete_planes()
        blocks: dict[str, dict[str, BitPlaneWeight]] = {}
        for linear in self._packed:
            blocks.setdefault(linear.block, {})[linear.layer] = cast(BitPlaneWeight, linear.module.weight)
        self.streamer = BlockStreamer(blocks, device, self._needs, self._master)
        self._put(self.streamer.weights.__getitem__)
        self._pool.stream(self.streamer)

    def stop(self) -> torch.device | None:
        """Put all planes back where they wait, in main memory; returns the device that they were streamed to."""
        if self.streamer is None:
            return None
        streamer, self.streamer = self.streamer, None
        streamer.close()
        self._pool.stream(None)
        self._put(streamer.host.__getitem__)
        return streamer.device

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Planes are in the weights inside, though they are streamed before and after."""
        device = self.stop()
        try:
            yield
        finally:
            if device is not None:
                self.start(device)

    def _put(self, weight_of: Callable[[str], BitPlaneWeight]) -> None:
        for linear in self._packed:
            linear.module.weight = torch.nn.Parameter(weight_of(linear.layer), requires_grad=False)
        weights = [(one.block, one.layer, cast(BitPlaneWeight, one.module.weight)) for one in self._packed]
        self._pool.replace(weights)
        self._controller.relocate()

    def _needs(self, layer: str) -> Needs:
        """What a layer will probably read: kernels may decide otherwise, and then get it when they run."""
        return needs_of(self._controller.levels_of(self._blocks[layer], self._roles[layer]))

    def _master(self, layer: str, device: torch.device) -> torch.Tensor:
        masters = self._pool.masters
        assert masters is not None
        if masters.holds(layer):
            return masters.get(layer, device)
        assert self.streamer is not None
        return self.streamer.host[layer].dequantize()


def offload(
    model: torch.nn.Module, offloading: Offloading, onload_device: Any, offload_device: Any, options: Any
) -> None:
    """What ``enable_group_offload`` does on a compiled model.

    Args:
        model: compiled.
        offloading: of the model.
        onload_device: where it runs.
        offload_device: where blocks wait: main memory.
        options: of diffusers' call; those that say how groups are cut and copied are left alone, with a warning.

    Raises:
        ValueError: for another place to wait at than main memory.
    """
    if torch.device(offload_device).type != "cpu":
        raise ValueError(f"planes of a compiled model wait in main memory, not on {offload_device}")
    usual = {"offload_type": "block_level", "num_blocks_per_group": 1}
    asked = [name for name in LEFT_ALONE if options.get(name) and options[name] != usual.get(name)]
    if asked:
        warnings.warn(
            f"{', '.join(asked)} of enable_group_offload mean nothing here: planes of a compiled model are streamed "
            "block by block, one block ahead, and everything that is not packed stays on the device",
            UserWarning,
            stacklevel=3,
        )
    offloading.start(torch.device(onload_device))
    model.to(onload_device)

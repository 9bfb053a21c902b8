"""Block streaming: planes wait in main memory, and two blocks' worth of them is on the device at a time.

While a block runs, the planes that the next one's recipe reads are copied into the other of two slots: at 4 bits half
of what 8 bits copy. Graphs read views of the slots, so nothing is bound or compiled anew when a block comes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch

from tadp.kernels.bitplanes import BitPlaneWeight
from tadp.kernels.formats import FORMATS, PLANE_BITS
from tadp.precision import L16, Level

SLOTS = 2
MASTER = "master"
"""What stands for the 16-bit weight among the planes of a layer."""

_ALIGNED = 256  # bytes that a tensor in a slot begins at a multiple of

Needs = frozenset[str]
"""Names of planes, and `MASTER`."""


@dataclass
class _Slot:
    """A place on the device for one block.

    Attributes:
        planes: bytes for its planes.
        masters: bytes for its 16-bit weights; empty until a block needs some.
        held: which parts of each layer are in it, by layer.
        done: marks on a GPU where the last block that read it was finished.
    """

    planes: torch.Tensor
    masters: torch.Tensor
    held: dict[str, Needs] = field(default_factory=dict)
    ready: Any = None
    done: Any = None


class BlockStreamer:
    """Brings the planes of blocks to a device, one block ahead.

    Attributes:
        host: the packed weights in main memory, by layer.
        device: where blocks run.
        weights: by layer, the weight on the device whose planes are views of a slot.
        copied: bytes that were copied to the device so far.
    """

    def __init__(
        self,
        blocks: Mapping[str, Mapping[str, BitPlaneWeight]],
        device: torch.device,
        needs: Callable[[str], Needs],
        master: Callable[[str, torch.device], torch.Tensor],
    ) -> None:
        """A streamer for blocks in running order.

        Args:
            blocks: packed weights by layer, by block.
            device: where blocks run.
            needs: what a layer's next run reads; nothing where its block will not run.
            master: the 16-bit weight of a layer, in main memory.
        """
        self.device = device
        self._needs, self._master = needs, master
        self._layers = {block: tuple(weights) for block, weights in blocks.items()}
        self._order = tuple(blocks)
        self.host = {layer: _pinned(weight, device) for weights in blocks.values() for layer, weight in weights.items()}
        size = max((sum(map(_plane_bytes, weights.values())) for weights in blocks.values()), default=0)
        self._slots = [
            _Slot(torch.empty(size, dtype=torch.uint8, device=device), torch.empty(0, dtype=torch.uint8, device=device))
            for _ in range(min(SLOTS, len(blocks)))
        ]
        self._views: dict[str, dict[str, torch.Tensor]] = {}
        self._at: dict[tuple[str, int], tuple[str, str]] = {}  # layer and part, by block and address
        self._block_of = {layer: block for block, weights in blocks.items() for layer in weights}
        self.weights = {
            layer: weight for block, weights in blocks.items() for layer, weight in self._laid_out(block, weights)
        }
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream is not None:  # whoever had the slots' memory before may still be running
            self._stream.wait_stream(torch.cuda.current_stream(device))
        self.copied = 0

    @property
    def slot_bytes(self) -> int:
        """Bytes that the slots take on the device."""
        return sum(slot.planes.nbytes + slot.masters.nbytes for slot in self._slots)

    def run(
        self, block: str, function: Callable[..., object], args: Sequence[object], kwargs: Mapping[str, object]
    ) -> object:
        """Run a block once its planes are there, while those of the next one come."""
        if block not in self._layers:  # nothing in it is packed
            return function(*args, **kwargs)
        slot = self._bring(block)
        if self._stream is not None and slot.ready is not None:
            torch.cuda.current_stream(self.device).wait_event(slot.ready)
        following = self._order[(self._order.index(block) + 1) % len(self._order)]
        if self._slot(following) is not slot:
            self._bring(following)
        try:
            return function(*args, **kwargs)
        finally:
            if self._stream is not None:
                slot.done = torch.cuda.current_stream(self.device).record_event()

    def ensure(self, block: str, tensors: Iterable[torch.Tensor]) -> None:
        """Copy what the running block reads and nobody foresaw; the recipe foretells nearly all of it."""
        for tensor in tensors:
            place = self._at.get((block, tensor.data_ptr()))
            if place is not None:
                self._ensure(*place)

    def ensure_planes(self, layer: str) -> None:
        """Copy what is missing of a layer's planes; its block is running."""
        for plane in PLANE_BITS:
            self._ensure(layer, plane)

    def close(self) -> None:
        """Wait for copies that are under way, as the slots are about to go."""
        if self._stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self._stream)

    def _ensure(self, layer: str, part: str) -> None:
        slot = self._slot(self._block_of[layer])
        held = slot.held.get(layer, frozenset())
        if part not in held:
            self._copy({layer: frozenset({part})})
            slot.held[layer] = held | {part}

    def master(self, layer: str) -> torch.Tensor:
        """The 16-bit weight of a layer, as a view of the slot that it is brought to."""
        block = self._block_of[layer]
        slot = self._slot(block)
        self._make_room_for_masters()
        if MASTER not in self._views[layer]:
            start = sum(_padded(self._master_bytes(other)) for other in self._before(block, layer))
            weight = self.host[layer]
            content = slot.masters[start : start + self._master_bytes(layer)]
            self._views[layer][MASTER] = content.view(weight.dtype).view(weight.shape)
            self._at[block, content.data_ptr()] = layer, MASTER
        return self._views[layer][MASTER]

    def _slot(self, block: str) -> _Slot:
        return self._slots[self._order.index(block) % len(self._slots)]

    def _before(self, block: str, layer: str) -> Sequence[str]:
        layers = self._layers[block]
        return layers[: layers.index(layer)]

    def _laid_out(self, block: str, weights: Mapping[str, BitPlaneWeight]) -> Sequence[tuple[str, BitPlaneWeight]]:
        """Weights whose planes are views of a block's slot."""
        slot, start, found = self._slot(block), 0, []
        for layer, weight in weights.items():
            views = {}
            for plane in PLANE_BITS:
                own: torch.Tensor = getattr(weight, plane)
                views[plane] = slot.planes[start : start + own.nbytes].view(own.shape)
                self._at[block, views[plane].data_ptr()] = layer, plane
                start += _padded(own.nbytes)
            self._views[layer] = views
            scale, factors = weight.scale.to(self.device), weight.factors
            factors = None if factors is None else factors.to(self.device)
            high, mid, low = views.values()
            made = BitPlaneWeight(high, mid, low, scale, weight.columns, weight.dtype, factors, weight.rotation)
            found.append((layer, made))
        return found

    def _bring(self, block: str) -> _Slot:
        """Copy what a block needs and its slot does not hold; on a GPU beside whatever runs."""
        slot = self._slot(block)
        wanted = {layer: self._needs(layer) for layer in self._layers[block]}
        kept = {layer: slot.held.get(layer, frozenset()) for layer in wanted}  # what another block left is gone
        missing = {layer: needs - kept[layer] for layer, needs in wanted.items()}
        if not any(missing.values()):
            return slot
        for layer, parts in missing.items():
            if MASTER in parts:
                self.master(layer)  # makes room
        slot.held = kept  # also where a copy fails below
        if self._stream is None:
            self._copy(missing)
        else:
            if slot.done is not None:
                self._stream.wait_event(slot.done)
            with torch.cuda.stream(self._stream):
                self._copy(missing)
                slot.ready = self._stream.record_event()
        slot.held = {layer: kept[layer] | missing[layer] for layer in wanted}
        return slot

    def _copy(self, missing: Mapping[str, Needs]) -> None:
        for layer, parts in missing.items():
            for part in parts:
                host = self.host[layer]
                source = self._master(layer, host.device) if part == MASTER else getattr(host, part)
                self._views[layer][part].copy_(source, non_blocking=True)
                self.copied += source.nbytes

    def _make_room_for_masters(self) -> None:
        if self._slots[0].masters.numel():
            return
        size = max(sum(_padded(self._master_bytes(layer)) for layer in layers) for layers in self._layers.values())
        for slot in self._slots:
            slot.masters = torch.empty(size, dtype=torch.uint8, device=self.device)
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))

    def _master_bytes(self, layer: str) -> int:
        weight = self.host[layer]
        return weight.numel() * weight.element_size()


def needs_of(levels: Iterable[Level]) -> Needs:
    """What a layer reads that runs at these levels: planes by the widest, and its 16-bit weight where one is 16."""
    found = list(levels)
    planes = {plane for level in found if level != L16 for plane in FORMATS[level.widest].planes}
    return frozenset(planes | ({MASTER} if L16 in found else set()))


def _pinned(weight: BitPlaneWeight, device: torch.device) -> BitPlaneWeight:
    """A weight in main memory, in pages that a GPU can copy from beside other work."""
    if device.type != "cuda":
        return cast(BitPlaneWeight, weight.to("cpu"))
    high, mid, low = (getattr(weight, name).to("cpu").pin_memory() for name in PLANE_BITS)
    scale, factors = weight.scale.to("cpu"), weight.factors
    factors = None if factors is None else factors.to("cpu")
    return BitPlaneWeight(high, mid, low, scale, weight.columns, weight.dtype, factors, weight.rotation)


def _plane_bytes(weight: BitPlaneWeight) -> int:
    return sum(_padded(getattr(weight, plane).nbytes) for plane in PLANE_BITS)


def _padded(nbytes: int) -> int:
    return -(-nbytes // _ALIGNED) * _ALIGNED
